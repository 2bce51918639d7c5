#include "points.hpp"

#include <cmath>

namespace proxy_norm {
namespace {

// The standard normal variable's quantile of rank u < 1/2, by Newton's method on its distribution function.
double lowerQuantile(double u) {
  double n = -std::sqrt(-2.0 * std::log(u)); // below the root: Newton's steps then climb to it
  for (int step = 0; step < 100; ++step) {
    const double distribution = 0.5 * std::erfc(-n * std::sqrt(0.5));
    const double density = std::exp(-0.5 * n * n) / std::sqrt(8.0 * std::atan(1.0));
    const double next = n + (u - distribution) / density;
    if (std::fabs(next - n) < 1e-15 * std::fabs(n))
      return next;
    n = next;
  }
  return n;
}

std::vector<double> quantilePoints(unsigned count) {
  std::vector<double> points(count, 0.0);
  for (unsigned i = 0; i < count / 2; ++i) {
    points[i] = lowerQuantile((i + 0.5) / count);
    points[count - 1 - i] = -points[i];
  }
  return points;
}

// The trapezoidal rule for a normal variable, at `perUnit` points a unit, `side` of them on either side of zero.
Points trapezoid(int side, double perUnit) {
  Points out;
  double total = 0;
  for (int i = -side; i <= side; ++i) {
    const double n = i / perUnit;
    out.points.push_back(n);
    out.weights.push_back(std::exp(-0.5 * n * n));
    total += out.weights.back();
  }
  for (double &weight : out.weights)
    weight /= total;
  return out;
}

// The off-diagonal of the Jacobi matrix of a symmetric distribution, by the Stieltjes procedure.
std::vector<double> jacobiMatrix(const Points &of, unsigned nodes) {
  std::vector<double> before(of.points.size(), 0.0), now(of.points.size(), 1.0), off;
  double last = 0;
  while (off.size() < nodes - 1) {
    double norm = 0;
    for (std::size_t i = 0; i < now.size(); ++i) {
      const double next = of.points[i] * now[i] - last * before[i];
      before[i] = now[i];
      now[i] = next;
      norm += of.weights[i] * next * next;
    }
    last = std::sqrt(norm);
    off.push_back(last);
    for (double &value : now)
      value /= last;
  }
  return off;
}

// The Gauss rule of a symmetric distribution, of an even number of nodes: it sums any polynomial of degree below
// twice that number as the distribution's own points do. Nodes are the eigenvalues of the Jacobi matrix, found by
// bisection (Sturm's count of those below a value).
Points gaussRule(const Points &of, unsigned nodes) {
  const std::vector<double> off = jacobiMatrix(of, nodes);
  const auto below = [&](double x) {
    unsigned count = 0;
    double pivot = -x;
    for (unsigned k = 0;; ++k) {
      count += pivot < 0;
      if (k == off.size())
        return count;
      pivot = -x - off[k] * off[k] / (pivot == 0 ? 1e-300 : pivot);
    }
  };
  Points rule{std::vector<double>(nodes), std::vector<double>(nodes)};
  for (unsigned node = 0; node < nodes / 2; ++node) {
    double low = of.points.front(), high = 0;
    for (int step = 0; step < 80; ++step) {
      const double middle = 0.5 * (low + high);
      (below(middle) > node ? high : low) = middle;
    }
    // its weight: one over the sum of the squared orthonormal polynomials there
    double before = 0, now = 1, squares = 1;
    for (std::size_t k = 0; k < off.size(); ++k) {
      const double next = (high * now - (k ? off[k - 1] : 0) * before) / off[k];
      before = now;
      now = next;
      squares += now * now;
    }
    rule.points[node] = high;
    rule.points[nodes - 1 - node] = -high;
    rule.weights[node] = rule.weights[nodes - 1 - node] = 1 / squares;
  }
  return rule;
}

} // namespace

std::vector<float> reluTable(unsigned quantiles) {
  const std::vector<double> points = quantilePoints(quantiles);
  std::vector<float> table(points.begin(), points.end());
  for (int power = 0; power < 3; ++power) {
    std::vector<float> tail(quantiles + 1, 0.0f);
    double sum = 0;
    for (unsigned k = quantiles; k-- > 0;) {
      sum += std::pow(points[k], power) / quantiles;
      tail[k] = float(sum);
    }
    table.insert(table.end(), tail.begin(), tail.end());
  }
  return table;
}

std::vector<Points> siluPoints(unsigned quantiles) {
  if (quantiles == 0)
    return {trapezoid(17, 2.5), trapezoid(35, 5.0), trapezoid(144, 16.0)};
  const Points all = {quantilePoints(quantiles), std::vector<double>(quantiles, 1.0 / quantiles)};
  const auto rule = [&](unsigned nodes) { return quantiles > nodes ? gaussRule(all, nodes) : all; };
  return {rule(16), rule(32), all};
}

} // namespace proxy_norm
