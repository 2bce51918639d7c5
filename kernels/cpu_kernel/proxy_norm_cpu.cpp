// Group norm, affine, activation and Proxy Norm of a contiguous [N, C, S] tensor in one pass over memory each
// way, called through a C interface (ctypes), so that it depends on no version of PyTorch.
//
// Statistics and sums are taken over blocks and combined in a fixed order: results do not depend on the
// number of threads.
#include "parallel.hpp"
#include "proxy_norm_math.hpp"
#include "vectors.hpp"

#include <algorithm>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

namespace {

using namespace proxy_norm;

constexpr std::int64_t kBlock = 2048; // elements: two float blocks stay in the first-level cache

constexpr std::int64_t kSecondLevel = 384 * 1024; // bytes of it that may be counted on

// The problem as the caller states it; the same layout as `_Problem` in cpu.py.
struct Problem {
  std::int64_t instances, channels, spatial, groups; // groups = 0: no normalisation, only the activation
  double eps, normEps;
  std::int32_t dtype, activation, points[kRules];
  const void *table;
  ParallelRegion region;
};

struct Tensors {
  const void *beta, *gamma, *proxyBeta, *proxyGamma, *x, *d;
  void *out, *workspace, *dBeta, *dGamma, *dProxyBeta, *dProxyGamma;
};

template <typename F> const F *as(const void *pointer) { return static_cast<const F *>(pointer); }

// Rows of `proxy`, each [C]: m, s, and the derivatives of m and v by mu and sigma.
enum ProxyRow { kMean, kInverse, kMeanByMu, kMeanBySigma, kVarianceByMu, kVarianceBySigma, kProxyRows };

// The proxy's moments. table for ReLU: points [K] and three tails [K + 1], or nothing (K = 0) for its closed form;
// for SiLU: points and weights of each rule of SmoothTable.
template <Activation A, typename F> class Proxy {
public:
  explicit Proxy(const Problem &p) {
    const F *at = as<F>(p.table);
    const std::int64_t k = p.points[0];
    if (A == Activation::Relu)
      relu_ = {at, at + k, at + 2 * k + 1, at + 3 * k + 2, p.points[0]};
    else
      for (int rule = 0; rule < kRules; at += 2 * p.points[rule++])
        smooth_.rules[rule] = {at, at + p.points[rule], p.points[rule]};
  }
  ProxyMoments<F> operator()(const ProxyArgument<F> &at) const {
    if (A == Activation::Relu)
      return relu_.count == 0 ? rectifiedGaussianMoments(at) : rectifiedTableMoments(at, relu_);
    const F origin = Phi<A>::value(at.mu);
    const ProxyPoints<F> &points = smooth_.choose(at.sigma);
    const auto add = [at, origin](ProxySums<Vector<F>> sums, Vector<F> point, Vector<F> weight) {
      addProxyPoint<A>(at, origin, point, weight, sums);
      return sums;
    };
    const ProxySums<Vector<F>> lanes =
        folded(ProxySums<Vector<F>>(), points.count, add, points.points, points.weights, [](std::int64_t) {});
    ProxySums<F> sums;
    sums.value = laneTotal<F>(lanes.value);
    sums.square = laneTotal<F>(lanes.square);
    sums.slope = laneTotal<F>(lanes.slope);
    sums.slopePoint = laneTotal<F>(lanes.slopePoint);
    sums.product = laneTotal<F>(lanes.product);
    sums.productPoint = laneTotal<F>(lanes.productPoint);
    return momentsOfSums(sums, origin);
  }

private:
  ReluTable<F> relu_{};
  SmoothTable<F> smooth_{};
};

template <Activation A, typename F>
void proxyStatistics(const Problem &p, const Tensors &t, const Threads &threads, F *proxy) {
  const std::int64_t channels = p.channels;
  const Proxy<A, F> moments(p);
  const F *beta = as<F>(t.beta), *gamma = as<F>(t.gamma), *proxyBeta = as<F>(t.proxyBeta),
          *proxyGamma = as<F>(t.proxyGamma);
  const std::int64_t cost = 64; // elements: a little low, so that few channels are not worth a second region
  parallelFor(channels, threads, cost, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t c = begin; c < end; ++c) {
      const ProxyMoments<F> m = moments(proxyArgument(beta[c], gamma[c], proxyBeta[c], proxyGamma[c]));
      proxy[kMean * channels + c] = m.mean;
      proxy[kInverse * channels + c] = inverseDeviation(m.variance, F(p.eps));
      proxy[kMeanByMu * channels + c] = m.meanByMu;
      proxy[kMeanBySigma * channels + c] = m.meanBySigma;
      proxy[kVarianceByMu * channels + c] = m.varianceByMu;
      proxy[kVarianceBySigma * channels + c] = m.varianceBySigma;
    }
  });
}

// One pass over a block, relative to a mean of some of its elements: that keeps the digits of a mean that is far from
// zero and of a variance that is small beside it.
template <typename T> Moments<double> blockMoments(const T *x, std::int64_t n) {
  using F = Arithmetic<T>;
  const F shift = sampledMean(n, x);
  const ShiftedSums<F> sums = shiftedSums(n, shift, x);
  const double mean = double(sums.sum) / double(n);
  return {double(n), double(shift) + mean, std::max(double(sums.square) - mean * double(sums.sum), 0.0)};
}

// Whether the backward pass keeps d phi'(z) in dx between its two steps: where phi' is dear and dx can hold it
// without rounding.
template <Activation A, typename T>
constexpr bool kKeepsSlopes = A != Activation::Relu && std::is_same<T, Arithmetic<T>>::value;

template <Activation A, typename F, typename T>
void addBlockSums(const Run<F> &run, const T *x, const T *d, T *dx, std::int64_t n, RunSums<double> &total) {
  RunSums<Vector<F>> lanes;
  if constexpr (kKeepsSlopes<A, T>) {
    const auto add = [run](RunSums<Vector<F>> &sums, Vector<F> x, Vector<F> d, Vector<F> full) {
      addToSums<A>(run, x, d, sums);
      Vector<F> dPhi;
      return slopeTimes<A>(argument(run, x), full, dPhi);
    };
    lanes = foldedWriting(lanes, n, add, dx, x, d);
  } else {
    const auto add = [run](RunSums<Vector<F>> sums, Vector<F> x, Vector<F> d) {
      addToSums<A>(run, x, d, sums);
      return sums;
    };
    // dx is written soon, and memory has nothing to do while x and d come from the caches
    lanes = folded(lanes, n, add, x, d, [dx](std::int64_t i) { fetchToWrite(dx + i, 0); });
  }
  const Vector<F> each[4] = {lanes.d, lanes.dPhi, lanes.dSlope, lanes.dSlopeU};
  double sums[4];
  laneTotals<F>(each, sums);
  total = total + RunSums<double>{sums[0], sums[1], sums[2], sums[3]};
}

// One forward or backward pass for one activation and one storage type.
template <Activation A, typename T> class Pass {
  using F = Arithmetic<T>;
  struct Row {
    std::int64_t index, channel, group; // index = instance * channels + channel, group likewise
  };

public:
  // workspace: of each group of each instance its mean, its inverse deviation and what rounding took from the mean
  // (far from zero, that is much beside a deviation), then the proxy's rows
  Pass(const Problem &p, const Tensors &t, const Threads &threads)
      : p(p), t(t), threads(threads), beta(as<F>(t.beta)), gamma(as<F>(t.gamma)),
        groups(p.groups > 0 ? p.groups : 1), perGroup(p.channels / groups),
        statistics(static_cast<F *>(t.workspace)), proxy(statistics + kStatistics * p.instances * groups) {}

  void forward() const {
    const T *x = as<T>(t.x);
    T *y = static_cast<T *>(t.out);
    proxyStatistics<A>(p, t, threads, proxy);
    overGroups(
        p.spatial * perGroup, [&](std::int64_t g) { groupStatistics(g, x); },
        [&](Row row) { forwardRow(row, x, y); });
  }

  void backward() const {
    const T *x = as<T>(t.x), *d = as<T>(t.d);
    T *dx = static_cast<T *>(t.out);
    // not a vector, which would write zeros first
    const std::unique_ptr<void, void (*)(void *)> memory(
        ::operator new(sizeof(RunSums<double>) * p.instances * p.channels), [](void *at) { ::operator delete(at); });
    RunSums<double> *const sums = static_cast<RunSums<double> *>(memory.get());
    std::vector<InputGradient<double>> means(p.instances * groups);
    overGroups(
        2 * p.spatial * perGroup,
        [&](std::int64_t g) {
          rowsOf(g, [&](Row row) { new (sums + row.index) RunSums<double>(rowSums(row, x, d, dx)); });
          means[g] = groupMeans(g, sums);
        },
        [&](Row row) { backwardRow(row, means[row.group], x, d, dx); });
    parameterGradients(sums);
  }

private:
  // Each group's first step, then its rows, while the group is still in the cache.
  template <typename First, typename Rows>
  void overGroups(std::int64_t cost, const First &first, const Rows &rows) const {
    const std::int64_t count = p.instances * groups;
    if (count >= 2 * threads.count || threads.count <= 1) {
      parallelFor(count, threads, cost, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t g = begin; g < end; ++g) {
          first(g);
          rowsOf(g, rows);
        }
      });
      return;
    }
    parallelFor(count, threads, cost, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t g = begin; g < end; ++g)
        first(g);
    });
    parallelFor(count * perGroup, threads, cost / perGroup, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin; row < end; ++row)
        rows(Row{row, row % p.channels, row / perGroup});
    });
  }

  template <typename Rows> void rowsOf(std::int64_t g, const Rows &rows) const {
    for (std::int64_t row = g * perGroup, c = g % groups * perGroup, end = row + perGroup; row < end; ++row, ++c)
      rows(Row{row, c, g});
  }

  // How many bytes behind a row the next group has its own, where there is one and a second-level cache holds both.
  std::int64_t ahead(Row row, int inputs, std::int64_t elementBytes) const {
    const std::int64_t bytes = perGroup * p.spatial * elementBytes;
    return row.group + 1 < p.instances * groups && bytes * (2 * inputs + 1) <= kSecondLevel ? bytes : 0;
  }

  enum { kCenter, kDeviation, kRest, kStatistics };
  F statistic(std::int64_t group, int which) const { return statistics[kStatistics * group + which]; }

  // Relative to the rounded mean: what rounding took returns in beta.
  Run<F> run(Row row) const {
    const F slope = gamma[row.channel] * statistic(row.group, kDeviation);
    return {statistic(row.group, kCenter), slope, beta[row.channel] - statistic(row.group, kRest) * slope,
            proxy[kMean * p.channels + row.channel], proxy[kInverse * p.channels + row.channel]};
  }

  void setStatistics(std::int64_t g, double mean, double inverse) const {
    statistics[kStatistics * g + kCenter] = F(mean);
    statistics[kStatistics * g + kDeviation] = F(inverse);
    statistics[kStatistics * g + kRest] = F(mean - double(F(mean)));
  }

  void groupStatistics(std::int64_t g, const T *x) const {
    if (p.groups <= 0) {
      setStatistics(g, 0, 1);
      return;
    }
    const std::int64_t n = perGroup * p.spatial;
    Moments<double> total;
    for (std::int64_t at = 0; at < n; at += kBlock)
      total = combined(total, blockMoments(x + g * n + at, std::min(kBlock, n - at)));
    setStatistics(g, total.mean, 1.0 / std::sqrt(total.deviations / double(n) + p.normEps));
  }

  void forwardRow(Row row, const T *x, T *y) const {
    const Forward<A, F> apply(run(row));
    const std::int64_t at = row.index * p.spatial, next = ahead(row, 1, sizeof(T));
    elementWise(p.spatial, next, next, [apply](Vector<F> v) { return apply(v); }, y + at, x + at);
  }

  RunSums<double> rowSums(Row row, const T *x, const T *d, T *dx) const {
    const Run<F> by = run(row);
    RunSums<double> total;
    for (std::int64_t at = row.index * p.spatial, end = at + p.spatial; at < end; at += kBlock)
      addBlockSums<A>(by, x + at, d + at, dx + at, std::min(kBlock, end - at), total);
    if (A == Activation::Relu) // phi(z) = phi'(z) z
      total.dPhi = double(by.slope) * total.dSlopeU + double(by.beta) * total.dSlope;
    total.dSlopeU -= double(statistic(row.group, kRest)) * total.dSlope;
    return total;
  }

  // With h = d phi'(z) s gamma the gradient of the normalised value, yhat = u r, and < > the group's mean:
  // dx = r (h - <h> - yhat <h yhat>).
  InputGradient<double> groupMeans(std::int64_t g, const RunSums<double> *sums) const {
    const double r = statistic(g, kDeviation);
    InputGradient<double> out = {r, 0, 0};
    if (p.groups <= 0)
      return out;
    const double share = 1.0 / double(perGroup * p.spatial);
    double h = 0, hU = 0;
    rowsOf(g, [&](Row row) {
      const double factor = double(gamma[row.channel]) * proxy[kInverse * p.channels + row.channel];
      h += factor * sums[row.index].dSlope;
      hU += factor * sums[row.index].dSlopeU;
    });
    out.byU = -r * r * r * share * hU;
    out.constant = -r * share * h - statistic(g, kRest) * out.byU; // u is relative to the rounded mean
    return out;
  }

  void backwardRow(Row row, const InputGradient<double> &means, const T *x, const T *d, T *dx) const {
    const Run<F> by = run(row);
    const InputGradient<F> coefficients = {F(means.direct * gamma[row.channel] * by.inverse), F(means.byU),
                                           F(means.constant)};
    const std::int64_t at = row.index * p.spatial;
    if constexpr (kKeepsSlopes<A, T>) {
      const auto body = [shift = by.shift, coefficients](Vector<F> kept, Vector<F> x) {
        return Vector<F>(kept * coefficients.direct + ((x - shift) * coefficients.byU + coefficients.constant));
      };
      update(p.spatial, body, dx + at, x + at);
    } else {
      const auto body = [by, coefficients](Vector<F> x, Vector<F> d) {
        return inputGradient<A>(by, coefficients, x, d);
      };
      elementWise(p.spatial, ahead(row, 2, sizeof(T)), 0, body, dx + at, x + at, d + at);
    }
  }

  // Direct gradients of beta and gamma, and those of m and s, of one channel.
  struct ChannelSums {
    double beta = 0, gamma = 0, mean = 0, inverse = 0;
  };

  void parameterGradients(const RunSums<double> *sums) const {
    const std::int64_t channels = p.channels;
    std::vector<ChannelSums> totals(channels);
    parallelFor(channels, threads, 8 * p.instances, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t n = 0; n < p.instances; ++n)
        for (std::int64_t c = begin, g = n * groups + begin / perGroup, left = perGroup - begin % perGroup;
             c < end; ++c) {
          addTo(totals[c], Row{n * channels + c, c, g}, sums[n * channels + c]);
          if (--left == 0) {
            ++g;
            left = perGroup;
          }
        }
      for (std::int64_t c = begin; c < end; ++c)
        putGradients(c, totals[c]);
    });
  }

  void putGradients(std::int64_t c, const ChannelSums &total) const {
    const std::int64_t channels = p.channels;
    const ProxyMoments<double> moments = {
        proxy[kMean * channels + c],         0,
        proxy[kMeanByMu * channels + c],     proxy[kMeanBySigma * channels + c],
        proxy[kVarianceByMu * channels + c], proxy[kVarianceBySigma * channels + c]};
    const ParameterGradients<double> through =
        proxyGradients<double>(moments, total.mean, total.inverse, proxy[kInverse * channels + c], gamma[c],
                               as<F>(t.proxyBeta)[c], as<F>(t.proxyGamma)[c]);
    static_cast<F *>(t.dBeta)[c] = F(total.beta + through.beta);
    static_cast<F *>(t.dGamma)[c] = F(total.gamma + through.gamma);
    static_cast<F *>(t.dProxyBeta)[c] = F(through.proxyBeta);
    static_cast<F *>(t.dProxyGamma)[c] = F(through.proxyGamma);
  }

  void addTo(ChannelSums &total, Row row, const RunSums<double> &sums) const {
    const double m = proxy[kMean * p.channels + row.channel], s = proxy[kInverse * p.channels + row.channel];
    total.beta += s * sums.dSlope;
    total.gamma += s * sums.dSlopeU * statistic(row.group, kDeviation);
    total.mean -= s * sums.d;
    total.inverse += sums.dPhi - m * sums.d;
  }

  const Problem &p;
  const Tensors &t;
  const Threads threads;
  const F *const beta, *const gamma;
  const std::int64_t groups, perGroup;
  F *const statistics, *const proxy;
};

template <Activation A, typename T> void runAs(const Problem &p, const Tensors &t, const Threads &threads) {
  const Pass<A, T> pass(p, t, threads);
  if (t.d == nullptr)
    pass.forward();
  else
    pass.backward();
}

template <Activation A> bool runType(const Problem &p, const Tensors &t, const Threads &threads) {
  switch (p.dtype) {
  case 0:
    runAs<A, float>(p, t, threads);
    return true;
  case 1:
    runAs<A, Half>(p, t, threads);
    return true;
  case 2:
    runAs<A, double>(p, t, threads);
    return true;
  }
  return false;
}

bool runActivation(const Problem &p, const Tensors &t, const Threads &threads) {
  switch (static_cast<Activation>(p.activation)) {
  case Activation::Relu:
    return runType<Activation::Relu>(p, t, threads);
  case Activation::Silu:
    return runType<Activation::Silu>(p, t, threads);
  }
  return false;
}

} // namespace

// Forward (d null: out is y) or backward (out is dx, and dBeta to dProxyGamma [channels] are the parameters'
// gradients). dtype, of x, y, d and dx: 0 float, 1 half, 2 double; everything else is float, or
// double for double. workspace [3 * instances * max(groups, 1) + 6 * channels] is written forward and read
// backward. Returns 0, or 1 for a dtype or activation that does not exist, or 2 when memory ran out.
extern "C" int proxy_norm_run(const Problem *p, int threads, const void *beta, const void *gamma,
                              const void *proxyBeta, const void *proxyGamma, const void *x, const void *d,
                              void *out, void *workspace, void *dBeta, void *dGamma, void *dProxyBeta,
                              void *dProxyGamma) {
  try {
    const Tensors tensors = {beta, gamma, proxyBeta, proxyGamma, x,          d,
                             out,  workspace, dBeta, dGamma, dProxyBeta, dProxyGamma};
    return runActivation(*p, tensors, {threads, p->region}) ? 0 : 1;
  } catch (const std::bad_alloc &) {
    return 2;
  }
}
