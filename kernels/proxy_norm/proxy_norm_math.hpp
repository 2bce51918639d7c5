// The arithmetic of Proxy Norm (Labatie et al. 2021, arXiv 2106.03743), free of Poplar and of the standard
// library's containers, so that the same lines run in the IPU codelets, in the host build of the PopART
// operator and in the CPU kernel.
//
// Notation, for one channel c:
//     out = (phi(gamma * y + beta) - m) * s       y: the normalised activation, phi: the activation function
//     Y   = proxy_beta + (1 + proxy_gamma) * n    n: a standard normal variable (the proxy)
//     m   = E[phi(gamma * Y + beta)],   v = Var[phi(gamma * Y + beta)],   s = 1 / sqrt(v + eps)
// gamma * Y + beta is itself normal, with mean  mu = beta + gamma * proxy_beta  and signed standard deviation
// sigma = gamma * (1 + proxy_gamma): everything the proxy needs is a function of these two scalars.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace proxy_norm {

enum class Activation : int { Relu = 0, Silu = 1 };

// Functions below that take a V work on one scalar or on a vector of lanes, with scalars of the lanes' type as
// the other operands. These few primitives are all that a vector type has to provide, where the defaults
// (enough for scalars and for the vector extensions of g++ and clang) do not serve.
template <typename V> struct BitsOf { // unsigned integers of 32 bits, as many as V has lanes
  using Type = std::uint32_t;
};
template <typename V> struct Lanes {
  static V larger(V a, V b) { return a < b ? b : a; } // a NaN in a stays
  static V smaller(V a, V b) { return a > b ? b : a; } // likewise
  static V positive(V z) {                            // 1 where z > 0, else 0
    const V zero{};
    return z > zero ? zero + 1.0f : zero;
  }
  static V where(V z, V d) { // d where z > 0, else 0
    const V zero{};
    return z > zero ? d : zero;
  }
  static V exponential(V x);
  static V exponentialWithin(V x); // for x between kLowest and kHighest
  // exponents of normal numbers
  static constexpr float kLowest = -87.0f, kHighest = 88.0f;
};

// exp(x) to about one unit in the last place, without branches: x = k ln 2 + r with |r| <= ln(2)/2, the polynomial
// of degree 6 that is nearest to exp(r) there (2e-9 of it), and k added to the exponent field.
template <typename V> inline V Lanes<V>::exponentialWithin(V x) {
  const float shift = 12582912.0f;           // 1.5 * 2^23: adding it rounds to the nearest integer
  const V shifted = x * 1.44269504f + shift; // its low bits hold k
  const V k = shifted - shift;
  V r = x - k * 0.693359375f; // ln 2 in two parts: the first has few bits, so its product is exact
  r = r + k * 2.12194440e-4f;
  V p = r * 1.3836825e-3f + 8.3748326e-3f;
  p = p * r + 4.1668225e-2f;
  p = p * r + 1.6666420e-1f;
  p = p * r + 0.49999991f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  typename BitsOf<V>::Type bits, exponent;
  std::memcpy(&exponent, &shifted, sizeof exponent);
  std::memcpy(&bits, &p, sizeof bits);
  bits += exponent << 23;
  std::memcpy(&p, &bits, sizeof p);
  return p;
}

template <typename V> inline V Lanes<V>::exponential(V x) {
  return exponentialWithin(smaller(larger(x, V{} + kLowest), V{} + kHighest));
}

#ifndef __IPU__ // double is slow on an IPU, and nothing there needs it
template <> inline double Lanes<double>::exponentialWithin(double x) { return std::exp(x); }
template <> inline double Lanes<double>::exponential(double x) { return std::exp(x); }
#endif

template <typename V> inline V sigmoid(V z) { // within before the sign changes: compilers then see a maximum
  const V within = Lanes<V>::smaller(Lanes<V>::larger(z, V{} - Lanes<V>::kHighest), V{} - Lanes<V>::kLowest);
  return 1.0f / (1.0f + Lanes<V>::exponentialWithin(-within));
}

// phi and its derivative. A NaN stays a NaN (but see ipu_vectors.hpp for ReLU): a diverged run must not look
// healthy.
template <Activation A> struct Phi;

template <> struct Phi<Activation::Relu> {
  template <typename V> static V value(V z) { return Lanes<V>::larger(z, V{}); }
  template <typename V> static void valueAndSlope(V z, V &value, V &slope) {
    value = Lanes<V>::larger(z, V{});
    slope = Lanes<V>::positive(z); // zero at zero, as in PyTorch
  }
};

template <> struct Phi<Activation::Silu> {
  template <typename V> static V value(V z) { return z * sigmoid(z); }
  template <typename V> static void valueAndSlope(V z, V &value, V &slope) {
    const V gate = sigmoid(z);
    value = z * gate;
    slope = gate + value * (1.0f - gate);
  }
};

// ---- The proxy's expectation ---------------------------------------------------------------------------

// Points n_i (ascending) and weights w_i of the discrete proxy.
template <typename F> struct ProxyPoints {
  const F *points;
  const F *weights;
  int count;
};

// For ReLU the points and their tail sums tail0[k] = sum_{i >= k} w_i, tail1[k] = sum w_i n_i and
// tail2[k] = sum w_i n_i^2, with tail[count] = 0.
template <typename F> struct ReluTable {
  const F *points;
  const F *tail0;
  const F *tail1;
  const F *tail2;
  int count;
};

// For smooth activations, beside all points, two Gauss rules of the same discrete distribution with 16 and 32
// nodes (for the exact expectation: coarser trapezoidal rules). Up to a |sigma| of 1.4 and of 4 they give the sums
// over all points to 1e-8 of sigma^2: SiLU's poles, at distance pi / sigma, are what limits them.
constexpr int kRules = 3;
template <typename F> struct SmoothTable {
  ProxyPoints<F> rules[kRules];
  const ProxyPoints<F> &choose(F sigma) const { return rules[rule(sigma)]; }
  static int rule(F sigma) {
    const F size = std::fabs(sigma);
    if (sizeof(F) > sizeof(float)) // who computes in double wants every digit
      return 2;
    return size <= F(1.4f) ? 0 : size <= F(4) ? 1 : 2;
  }
};

// Sums over the points from which mean, variance and their derivatives follow; the sums of several slices
// of the points add up.
template <typename V> struct ProxySums {
  V value{}, square{};         // sum w phi, sum w phi^2
  V slope{}, slopePoint{};     // sum w phi', sum w phi' n
  V product{}, productPoint{}; // sum w phi phi', sum w phi phi' n
};

template <typename V> inline ProxySums<V> operator+(const ProxySums<V> &a, const ProxySums<V> &b) {
  return {a.value + b.value,           a.square + b.square,   a.slope + b.slope,
          a.slopePoint + b.slopePoint, a.product + b.product, a.productPoint + b.productPoint};
}

// m and v of one channel with their derivatives with respect to mu and sigma.
template <typename F> struct ProxyMoments {
  F mean, variance;
  F meanByMu, meanBySigma, varianceByMu, varianceBySigma;
};

template <typename F> struct ProxyArgument {
  F mu, sigma;
};

template <typename F> inline ProxyArgument<F> proxyArgument(F beta, F gamma, F proxyBeta, F proxyGamma) {
  return {beta + gamma * proxyBeta, gamma * (1.0f + proxyGamma)};
}

// Adds a point (or a vector of points of one channel, or one point of a vector of channels) to sums held in registers:
// no [C, points] tensor ever exists. origin = phi(mu) is taken off every value, which changes no variance and keeps it
// accurate when the mean is large beside it.
template <Activation A, typename V, typename M, typename P>
inline void addProxyPoint(const ProxyArgument<M> &at, M origin, P point, P weight, ProxySums<V> &sums) {
  V phi, slope;
  Phi<A>::valueAndSlope(point * at.sigma + at.mu, phi, slope);
  phi = phi - origin;
  const V weighted = weight * phi, weightedSlope = weight * slope;
  sums.value += weighted;
  sums.square += weighted * phi;
  sums.slope += weightedSlope;
  sums.slopePoint += weightedSlope * point;
  sums.product += weightedSlope * phi;
  sums.productPoint += weightedSlope * phi * point;
}

template <typename F> inline ProxyMoments<F> momentsOfSums(const ProxySums<F> &sums, F origin) {
  ProxyMoments<F> out;
  out.mean = origin + sums.value;
  out.variance = sums.square - sums.value * sums.value;
  const F zero{};
  out.variance = out.variance < zero ? zero : out.variance;
  out.meanByMu = sums.slope;
  out.meanBySigma = sums.slopePoint;
  out.varianceByMu = 2.0f * (sums.product - sums.value * sums.slope);
  out.varianceBySigma = 2.0f * (sums.productPoint - sums.value * sums.slopePoint);
  return out;
}

// ReLU of a normal variable: given p = P(n > n_0), a = E[n; n > n_0], b = E[n^2; n > n_0] with n_0 the point
// where mu + sigma n changes sign (sigma >= 0), every moment is a polynomial in mu and sigma:
//   mean = p mu + a sigma,   variance = p (1 - p) mu^2 + 2 a (1 - p) mu sigma + (b - a^2) sigma^2.
// Moments of Relu about zero would cancel for large mu / sigma; this form does not.
template <typename F> inline ProxyMoments<F> rectifiedMoments(F mu, F sigma, F p, F a, F b, F sign) {
  const F zero{}, q = 1.0f - p;
  ProxyMoments<F> out;
  out.mean = p * mu + a * sigma;
  out.variance = p * q * mu * mu + 2.0f * a * q * mu * sigma + (b - a * a) * sigma * sigma;
  out.variance = out.variance < zero ? zero : out.variance;
  out.meanByMu = p;
  out.meanBySigma = sign * a;
  out.varianceByMu = 2.0f * q * (p * mu + a * sigma);
  out.varianceBySigma = sign * 2.0f * (a * q * mu + (b - a * a) * sigma);
  return out;
}

// The points of the table with mu + sigma n > 0 (sigma >= 0), by bisection: the first of them, of each of `channels`,
// which take the same steps, so that none waits for another. Without branches that nobody could predict.
template <int channels, typename F>
inline void firstAbove(const ReluTable<F> &table, const F *mu, const F *sigma, int (&first)[channels]) {
  for (int i = 0; i < channels; ++i)
    first[i] = 0;
  for (int size = table.count; size > 0;) { // it lies in [first, first + size]
    const int step = (size + 1) / 2;
    for (int i = 0; i < channels; ++i)
      first[i] += mu[i] + sigma[i] * table.points[first[i] + step - 1] > F(0) ? 0 : step;
    size -= step;
  }
}

// ReLU over a table, without a loop over its points: the points above the sign change are found by bisection
// and their sums read from the tails. The table must be symmetric about zero (sigma may be negative).
template <typename F>
inline ProxyMoments<F> rectifiedTableMoments(const ProxyArgument<F> &at, const ReluTable<F> &table) {
  const F sign = at.sigma < F(0) ? F(-1) : F(1);
  const F sigma = sign * at.sigma;
  int first[1];
  firstAbove<1>(table, &at.mu, &sigma, first);
  return rectifiedMoments(at.mu, sigma, table.tail0[first[0]], table.tail1[first[0]], table.tail2[first[0]], sign);
}

// Phi(t), the share of a standard Gaussian below t, given its density there.
template <typename F> inline F gaussianBelow(F t, F density);

// By Mills' ratio (1 - Phi(s)) / phi(s), a polynomial in u = 1 / (1 + s / 4) that is off by 2e-8 of it at most, whatever
// s >= 0. Of an IPU's library nobody has shown that it has erfc: PopLibs' codelets call none.
template <> inline float gaussianBelow<float>(float t, float density) {
  const float u = 1.0f / (1.0f + 0.25f * std::fabs(t));
  float ratio = u * 0.0517205154f - 0.212172697f;
  ratio = ratio * u + 0.257138213f;
  ratio = ratio * u - 0.0971838138f;
  ratio = ratio * u + 0.170235209f;
  ratio = ratio * u + 0.144023138f;
  ratio = ratio * u + 0.205354111f;
  ratio = ratio * u + 0.234192427f;
  ratio = ratio * u + 0.25000715f;
  ratio = ratio * u + 0.249999908f;
  const float beyond = density * ratio * u;
  return t < 0.0f ? beyond : 1.0f - beyond;
}
#ifndef __IPU__
template <> inline double gaussianBelow<double>(double t, double) {
  return 0.5 * std::erfc(-0.7071067811865476 * t);
}
#endif

// ReLU of a true Gaussian: p = Phi(t), a = phi(t), b = Phi(t) - t phi(t) with t = mu / sigma.
template <typename F> inline ProxyMoments<F> rectifiedGaussianMoments(const ProxyArgument<F> &at) {
  const F sign = at.sigma < F(0) ? F(-1) : F(1);
  const F sigma = sign * at.sigma;
  const F t = sigma > F(0) ? at.mu / sigma : (at.mu > F(0) ? F(1e4) : F(-1e4));
  const F density = std::fabs(t) > F(40) ? F(0) : F(0.3989422804014327) * Lanes<F>::exponential(F(-0.5) * t * t);
  const F p = gaussianBelow(t, density);
  const F b = std::fabs(t) > F(40) ? p : p - t * density;
  return rectifiedMoments(at.mu, sigma, p, density, b, sign);
}

template <typename F> inline F inverseDeviation(F variance, F eps) { return F(1) / std::sqrt(variance + eps); }

// Gradients of the four parameters of a channel through its proxy, given those of m and s.
template <typename F> struct ParameterGradients {
  F beta, gamma, proxyBeta, proxyGamma;
};

template <typename F>
inline ParameterGradients<F> proxyGradients(const ProxyMoments<F> &moments, F gradMean, F gradInverse, F inverse,
                                            F gamma, F proxyBeta, F proxyGamma) {
  const F gradVariance = F(-0.5) * inverse * inverse * inverse * gradInverse;
  const F gradMu = gradMean * moments.meanByMu + gradVariance * moments.varianceByMu;
  const F gradSigma = gradMean * moments.meanBySigma + gradVariance * moments.varianceBySigma;
  return {gradMu, gradMu * proxyBeta + gradSigma * (F(1) + proxyGamma), gradMu * gamma, gradSigma * gamma};
}

// ---- Group statistics ------------------------------------------------------------------------------------

// Count, mean and sum of squared deviations; two of them combine without cancellation (Chan et al. 1979).
template <typename F> struct Moments {
  F count = 0, mean = 0, deviations = 0;
};

template <typename F> inline Moments<F> combined(const Moments<F> &a, const Moments<F> &b) {
  if (b.count == F(0))
    return a;
  Moments<F> out;
  out.count = a.count + b.count;
  const F delta = b.mean - a.mean;
  const F share = b.count / out.count;
  out.mean = a.mean + delta * share;
  out.deviations = a.deviations + b.deviations + delta * delta * a.count * share;
  return out;
}

} // namespace proxy_norm
