// The vertices of the proxies, and of sums between tiles: see codelets.cpp.
#pragma once

#include "sweep_tasks.hpp"

#include <poplar/HalfFloat.hpp>
#include <poplar/Vertex.hpp>

namespace proxy_norm {

using poplar::InOut;
using poplar::Input;
using poplar::Output;
using poplar::Vector;
constexpr auto ONE_PTR = poplar::VectorLayout::ONE_PTR;
template <bool Silu> constexpr Activation kActivation = Silu ? Activation::Silu : Activation::Relu;

// ---- The proxy -------------------------------------------------------------------------------------------

template <typename P>
inline ProxyArgument<float> argumentOf(const P *beta, const P *gamma, const P *proxyBeta, const P *proxyGamma,
                                       unsigned row) {
  return proxyArgument(float(beta[row]), float(gamma[row]), float(proxyBeta[row]), float(proxyGamma[row]));
}

inline ProxyMoments<float> tableMoments(const ProxyArgument<float> &at, const float *table, unsigned points) {
  const float *tails = table + points;
  return rectifiedTableMoments(
      at, ReluTable<float>{table, tails, tails + points + 1, tails + 2 * (points + 1), int(points)});
}

// m and s of `rows` channels for ReLU. table: points [K] and three tails [K + 1].
template <typename P> class ReluProxy : public poplar::MultiVertex {
public:
  Input<Vector<P, ONE_PTR, 8>> beta, gamma, proxyBeta, proxyGamma;
  Input<Vector<float, ONE_PTR, 8>> table;
  Output<Vector<float, ONE_PTR, 8>> mean, inverse;
  unsigned rows, points;
  float eps;

  void compute(unsigned worker) {
    for (unsigned row = worker; row < rows; row += numWorkers()) {
      const auto at = argumentOf(&beta[0], &gamma[0], &proxyBeta[0], &proxyGamma[0], row);
      const auto moments = tableMoments(at, &table[0], points);
      mean[row] = moments.mean;
      inverse[row] = inverseDeviation(moments.variance, eps);
    }
  }
};

// The same for a true Gaussian: a vertex of its own, as an exponential and Mills' ratio are much code that no other needs.
template <typename P> class GaussianReluProxy : public poplar::MultiVertex {
public:
  Input<Vector<P, ONE_PTR, 8>> beta, gamma, proxyBeta, proxyGamma;
  Output<Vector<float, ONE_PTR, 8>> mean, inverse;
  unsigned rows;
  float eps;

  void compute(unsigned worker) {
    for (unsigned row = worker; row < rows; row += numWorkers()) {
      const auto moments = rectifiedGaussianMoments(
          argumentOf(&beta[0], &gamma[0], &proxyBeta[0], &proxyGamma[0], row));
      mean[row] = moments.mean;
      inverse[row] = inverseDeviation(moments.variance, eps);
    }
  }
};

inline void putSlopes(const ProxyMoments<float> &moments, float *slopes) {
  slopes[0] = moments.meanByMu;
  slopes[1] = moments.meanBySigma;
  slopes[2] = moments.varianceByMu;
  slopes[3] = moments.varianceBySigma;
}

// The derivatives that the backward pass needs: of m by mu and sigma, of v by mu and sigma, four a channel.
template <typename P> class ReluSlopes : public poplar::MultiVertex {
public:
  Input<Vector<P, ONE_PTR, 8>> beta, gamma, proxyBeta, proxyGamma;
  Input<Vector<float, ONE_PTR, 8>> table;
  Output<Vector<float, ONE_PTR, 8>> slopes;
  unsigned rows, points;

  void compute(unsigned worker) {
    for (unsigned row = worker; row < rows; row += numWorkers())
      putSlopes(tableMoments(argumentOf(&beta[0], &gamma[0], &proxyBeta[0], &proxyGamma[0], row), &table[0], points),
                &slopes[4 * row]);
  }
};

template <typename P> class GaussianReluSlopes : public poplar::MultiVertex {
public:
  Input<Vector<P, ONE_PTR, 8>> beta, gamma, proxyBeta, proxyGamma;
  Output<Vector<float, ONE_PTR, 8>> slopes;
  unsigned rows;

  void compute(unsigned worker) {
    for (unsigned row = worker; row < rows; row += numWorkers())
      putSlopes(
          rectifiedGaussianMoments(argumentOf(&beta[0], &gamma[0], &proxyBeta[0], &proxyGamma[0], row)),
          &slopes[4 * row]);
  }
};

// SiLU needs its points one by one: their sums are split into `slices` for each channel, which the next vertex
// adds. Forward (Slopes = false) needs two: sums [rows][slices][2]; backward all six. points and weights: those of
// the three rules of SmoothTable, each at an even place.
template <typename P, bool Slopes> class SiluProxySums : public poplar::MultiVertex {
public:
  Input<Vector<P, ONE_PTR, 8>> beta, gamma, proxyBeta, proxyGamma;
  Input<Vector<float, ONE_PTR, 8>> points, weights;
  Output<Vector<float, ONE_PTR, 8>> sums;
  unsigned rows, slices, count0, count1, count2;

  void compute(unsigned worker) {
    const unsigned start1 = (count0 + 1) / 2 * 2, start2 = start1 + (count1 + 1) / 2 * 2;
    const float *point = &points[0], *weight = &weights[0];
    const SmoothTable<float> table = {{{point, weight, int(count0)},
                                       {point + start1, weight + start1, int(count1)},
                                       {point + start2, weight + start2, int(count2)}}};
    for (unsigned item = worker; item < rows * slices; item += numWorkers()) {
      const unsigned row = item / slices, slice = item % slices;
      const auto at = argumentOf(&beta[0], &gamma[0], &proxyBeta[0], &proxyGamma[0], row);
      const auto part = proxySums<Activation::Silu>(at, table.choose(at.sigma), slice, slices);
      float *out = &sums[(Slopes ? 6 : 2) * item];
      out[0] = part.value;
      out[1] = part.square;
      if (Slopes) {
        out[2] = part.slope;
        out[3] = part.slopePoint;
        out[4] = part.product;
        out[5] = part.productPoint;
      }
    }
  }
};

// m and s from the slices' sums.
template <typename P> class SiluProxy : public poplar::MultiVertex {
public:
  Input<Vector<P, ONE_PTR, 8>> beta, gamma, proxyBeta;
  Input<Vector<float, ONE_PTR, 8>> sums;
  Output<Vector<float, ONE_PTR, 8>> mean, inverse;
  unsigned rows, slices;
  float eps;

  void compute(unsigned worker) {
    for (unsigned row = worker; row < rows; row += numWorkers()) {
      alignas(8) float total[2];
      addParts<2>(&sums[row * slices * 2], slices, 2, total);
      const float mu = float(beta[row]) + float(gamma[row]) * float(proxyBeta[row]);
      const auto moments =
          momentsOfSums(ProxySums<float>{total[0], total[1], 0, 0, 0, 0}, Phi<Activation::Silu>::value(mu));
      mean[row] = moments.mean;
      inverse[row] = inverseDeviation(moments.variance, eps);
    }
  }
};

// The derivatives from the slices' sums.
class SiluSlopes : public poplar::MultiVertex {
public:
  Input<Vector<float, ONE_PTR, 8>> sums;
  Output<Vector<float, ONE_PTR, 8>> slopes;
  unsigned rows, slices;

  void compute(unsigned worker) {
    for (unsigned row = worker; row < rows; row += numWorkers()) {
      alignas(8) float total[6];
      addParts<6>(&sums[row * slices * 6], slices, 6, total);
      const ProxySums<float> all = {total[0], total[1], total[2], total[3], total[4], total[5]};
      putSlopes(momentsOfSums(all, 0.0f), &slopes[4 * row]); // phi(mu) plays no part in them
    }
  }
};

// The parameters' gradients: what flows through m and s, and the direct gradients of beta and gamma.
template <typename P> class ProxyGradients : public poplar::MultiVertex {
public:
  Input<Vector<P, ONE_PTR, 8>> gamma, proxyBeta, proxyGamma;
  Input<Vector<float, ONE_PTR, 8>> inverse, slopes, gradMean, gradInverse, directBeta, directGamma;
  Output<Vector<P, ONE_PTR, 8>> gradBeta, gradGamma, gradProxyBeta, gradProxyGamma;
  unsigned rows;

  void compute(unsigned worker) {
    const WordRange range(rows, 2, worker, numWorkers());
    for (unsigned row = range.begin; row < range.end; ++row) {
      const float *slope = &slopes[4 * row];
      const ProxyMoments<float> moments = {0, 0, slope[0], slope[1], slope[2], slope[3]};
      const auto through = proxyGradients(moments, gradMean[row], gradInverse[row], inverse[row],
                                          float(gamma[row]), float(proxyBeta[row]), float(proxyGamma[row]));
      gradBeta[row] = P(directBeta[row] + through.beta);
      gradGamma[row] = P(directGamma[row] + through.gamma);
      gradProxyBeta[row] = P(through.proxyBeta);
      gradProxyGamma[row] = P(through.proxyGamma);
    }
  }
};

// ---- Sums over tiles -------------------------------------------------------------------------------------

// out[i] = sum over `parts` of in[part][i], for an even `count`.
class SumParts : public poplar::MultiVertex {
public:
  Input<Vector<float, ONE_PTR, 8>> in;
  Output<Vector<float, ONE_PTR, 8>> out;
  unsigned parts, count;

  void compute(unsigned worker) {
    for (unsigned i = 2 * worker; i < count; i += 2 * numWorkers())
      addParts<2>(&in[i], parts, count, &out[i]);
  }
};

} // namespace proxy_norm
