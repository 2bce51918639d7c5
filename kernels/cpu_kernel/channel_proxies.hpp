// What the caller hands over, and the first thing computed from it: the proxy's statistics of each channel, a vector of
// channels at a time.
#pragma once

#include "parallel.hpp"
#include "proxy_norm_math.hpp"
#include "vectors.hpp"

#include <algorithm>
#include <cstdint>

namespace {

using namespace proxy_norm;

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

// The proxy of channels [begin, end). table for ReLU: points [K] and three tails [K + 1], or nothing (K = 0) for its
// closed form; for SiLU: points and weights of each rule of SmoothTable.
template <Activation A, typename F> class Proxy {
public:
  Proxy(const Problem &p, const Tensors &t, F *proxy) : channels_(p.channels), eps_(F(p.eps)), t_(t), proxy_(proxy) {
    const F *at = as<F>(p.table);
    const std::int64_t k = p.points[0];
    if (A == Activation::Relu)
      relu_ = {at, at + k, at + 2 * k + 1, at + 3 * k + 2, p.points[0]};
    else
      for (int rule = 0; rule < kRules; at += 2 * p.points[rule++])
        smooth_.rules[rule] = {at, at + p.points[rule], p.points[rule]};
  }

  void put(std::int64_t begin, std::int64_t end) const {
    for (std::int64_t c = begin; c < end; c += kLanes<F>)
      putTogether(c, std::min(kLanes<F>, end - c));
  }

private:
  using V = Vector<F>;

  // As many channels as a vector has lanes, each with the numbers that it would have alone.
  void putTogether(std::int64_t c, std::int64_t count) const {
    const auto first = [c, count](const void *of) { return loadFirst(as<F>(of) + c, count); };
    const ProxyArgument<V> at =
        proxyArgument(first(t_.beta), first(t_.gamma), first(t_.proxyBeta), first(t_.proxyGamma));
    const ProxyMoments<V> m = moments(at);
    F inverse[kLanes<F>];
    store(inverse, m.variance);
    for (F &value : inverse)
      value = inverseDeviation(value, eps_);
    const auto put = [=](ProxyRow row, V value) { storeFirst(proxy_ + row * channels_ + c, value, count); };
    put(kMean, m.mean);
    put(kInverse, load(inverse));
    put(kMeanByMu, m.meanByMu);
    put(kMeanBySigma, m.meanBySigma);
    put(kVarianceByMu, m.varianceByMu);
    put(kVarianceBySigma, m.varianceBySigma);
  }

  ProxyMoments<V> moments(const ProxyArgument<V> &at) const {
    if constexpr (A == Activation::Relu)
      return relu_.count == 0 ? gaussianMoments(at) : tableMoments(at);
    else
      return smoothMoments(at);
  }

  ProxyMoments<V> gaussianMoments(const ProxyArgument<V> &at) const {
    ProxyMoments<V> out;
    for (std::int64_t i = 0; i < kLanes<F>; ++i)
      set(out, i, rectifiedGaussianMoments(ProxyArgument<F>{at.mu[i], at.sigma[i]}));
    return out;
  }

  ProxyMoments<V> tableMoments(const ProxyArgument<V> &at) const {
    const V zero{}, sign = at.sigma < zero ? zero - 1.0f : zero + 1.0f, size = sign * at.sigma;
    F mu[kLanes<F>], sigma[kLanes<F>], tails[3][kLanes<F>];
    int first[kLanes<F>];
    store(mu, at.mu);
    store(sigma, size);
    firstAbove(relu_, mu, sigma, first);
    for (std::int64_t i = 0; i < kLanes<F>; ++i) {
      tails[0][i] = relu_.tail0[first[i]];
      tails[1][i] = relu_.tail1[first[i]];
      tails[2][i] = relu_.tail2[first[i]];
    }
    return rectifiedMoments(at.mu, size, load(tails[0]), load(tails[1]), load(tails[2]), sign);
  }

  ProxyMoments<V> smoothMoments(const ProxyArgument<V> &at) const {
    const V origin = Phi<A>::value(at.mu);
    int ruleOf[kLanes<F>];
    bool used[kRules] = {};
    for (std::int64_t i = 0; i < kLanes<F>; ++i)
      used[ruleOf[i] = SmoothTable<F>::rule(at.sigma[i])] = true;
    ProxyMoments<V> out;
    for (int rule = 0; rule < kRules; ++rule)
      if (used[rule]) {
        ProxySums<V> sums;
        const ProxyPoints<F> &points = smooth_.rules[rule];
        for (int k = 0; k < points.count; ++k)
          addProxyPoint<A>(at, origin, points.points[k], points.weights[k], sums);
        const ProxyMoments<V> m = momentsOfSums(sums, origin);
        for (std::int64_t i = 0; i < kLanes<F>; ++i)
          if (ruleOf[i] == rule)
            set(out, i, ProxyMoments<F>{m.mean[i], m.variance[i], m.meanByMu[i], m.meanBySigma[i], m.varianceByMu[i],
                                        m.varianceBySigma[i]});
      }
    return out;
  }

  static void set(ProxyMoments<V> &of, std::int64_t lane, const ProxyMoments<F> &to) {
    of.mean[lane] = to.mean;
    of.variance[lane] = to.variance;
    of.meanByMu[lane] = to.meanByMu;
    of.meanBySigma[lane] = to.meanBySigma;
    of.varianceByMu[lane] = to.varianceByMu;
    of.varianceBySigma[lane] = to.varianceBySigma;
  }

  const std::int64_t channels_;
  const F eps_;
  const Tensors &t_;
  F *const proxy_;
  ReluTable<F> relu_{};
  SmoothTable<F> smooth_{};
};

} // namespace
