// The vertices of the Proxy Norm operators. All are MultiVertex: compute(worker) runs on the six workers of a
// tile, which share the fields and must never store to one 32-bit word. Arithmetic is float throughout and lives
// in proxy_norm_math.hpp and sweep.hpp; T is the type of activations, P that of parameters.
//
// The sweeps that sum keep their sums in Output fields, in the part that is a worker's own: it writes zeros there
// first, then reads and adds. Poplar's guide asks for InOut where a field is read, but an InOut must have been
// written before the vertex runs; PopLibs' convolutions (ConvPartialnx1) too put zeros into an Output and add to it.
#include "sweep.hpp"

#include <poplar/HalfFloat.hpp>
#include <poplar/Vertex.hpp>

namespace proxy_norm {

using poplar::Input;
using poplar::Output;
using poplar::Vector;
constexpr auto ONE_PTR = poplar::VectorLayout::ONE_PTR;
template <bool Silu> constexpr Activation kActivation = Silu ? Activation::Silu : Activation::Relu;

// ---- The proxy -------------------------------------------------------------------------------------------

inline ProxyMoments<float> reluMoments(const ProxyArgument<float> &at, const float *table, unsigned points) {
  if (points == 0) // the exact expectation: table is not read
    return rectifiedGaussianMoments(at);
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
      const auto at =
          proxyArgument(float(beta[row]), float(gamma[row]), float(proxyBeta[row]), float(proxyGamma[row]));
      const auto moments = reluMoments(at, &table[0], points);
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
    for (unsigned row = worker; row < rows; row += numWorkers()) {
      const auto at =
          proxyArgument(float(beta[row]), float(gamma[row]), float(proxyBeta[row]), float(proxyGamma[row]));
      putSlopes(reluMoments(at, &table[0], points), &slopes[4 * row]);
    }
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
      const auto at =
          proxyArgument(float(beta[row]), float(gamma[row]), float(proxyBeta[row]), float(proxyGamma[row]));
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
    const PairRange range(rows, worker, numWorkers());
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

// ---- The group norm's statistics --------------------------------------------------------------------------

// Each worker's sums of x - shift and of its square, for each group of this tile: partials [6][groups][2].
// The shift, an element of the group, keeps the variance accurate when the mean is far from zero.
template <typename T> class GroupSums : public poplar::MultiVertex {
public:
  Input<Vector<T, ONE_PTR, 8>> x;
  Input<Vector<unsigned short, ONE_PTR, 8>> pieces;
  Input<Vector<T, ONE_PTR, 8>> shift;
  Output<Vector<float, ONE_PTR, 8>> partials;
  unsigned length, pieceCount, groups, perGroup;

  void compute(unsigned worker) {
    float *mine = &partials[worker * groups * 2];
    for (unsigned i = 0; i < groups * 2; ++i)
      mine[i] = 0;
    GroupSumsSweep<T> sweep = {&x[0], &shift[0], mine, perGroup};
    sweepPieces(sweep, &pieces[0], pieceCount, length, worker, numWorkers());
  }
};

// Mean and inverse deviation of `rows` groups from `parts` partial sums each: partials [parts][rows][2].
template <typename T> class FinishStatistics : public poplar::MultiVertex {
public:
  Input<Vector<float, ONE_PTR, 8>> partials;
  Input<Vector<T, ONE_PTR, 8>> shift;
  Output<Vector<float, ONE_PTR, 8>> mean, inverse;
  unsigned rows, parts;
  float share, eps; // one over the group's elements

  void compute(unsigned worker) {
    for (unsigned row = worker; row < rows; row += numWorkers()) {
      alignas(8) float sums[2];
      addParts<2>(&partials[row * 2], parts, rows * 2, sums);
      const float offset = sums[0] * share;
      const float variance = sums[1] * share - offset * offset;
      mean[row] = float(shift[row]) + offset;
      inverse[row] = inverseDeviation(variance < 0.0f ? 0.0f : variance, eps);
    }
  }
};

// ---- The passes over the activations ----------------------------------------------------------------------

// out = (phi(gamma (x - mean) inverse + beta) - m) s. The groups' and channels' vectors hold those of this tile.
template <typename T, typename P, bool Silu> class ProxyNormForward : public poplar::MultiVertex {
public:
  Input<Vector<T, ONE_PTR, 8>> x;
  Input<Vector<unsigned short, ONE_PTR, 8>> pieces;
  Input<Vector<float, ONE_PTR, 8>> groupMean, groupInverse;
  Input<Vector<P, ONE_PTR, 8>> beta, gamma;
  Input<Vector<float, ONE_PTR, 8>> mean, inverse;
  Output<Vector<T, ONE_PTR, 8>> out;
  unsigned length, pieceCount, perGroup;

  void compute(unsigned worker) {
    const Share<P> share = {&groupMean[0], &groupInverse[0], &beta[0], &gamma[0], &mean[0], &inverse[0], perGroup};
    ForwardSweep<T, P, kActivation<Silu>> sweep = {&x[0], &out[0], share};
    sweepPieces(sweep, &pieces[0], pieceCount, length, worker, numWorkers());
  }
};

// Each worker's sums for the backward pass: by channel (sum d, sum d phi(z), sum d phi'(z), sum d phi'(z) y) in
// channelPartials [6][channels][4], and by group the two sums of the group norm's gradient [6][groups][2].
template <typename T, typename P, bool Silu> class BackwardSums : public poplar::MultiVertex {
public:
  Input<Vector<T, ONE_PTR, 8>> x, grad;
  Input<Vector<unsigned short, ONE_PTR, 8>> pieces;
  Input<Vector<float, ONE_PTR, 8>> groupMean, groupInverse;
  Input<Vector<P, ONE_PTR, 8>> beta, gamma;
  Input<Vector<float, ONE_PTR, 8>> mean, inverse;
  Output<Vector<float, ONE_PTR, 8>> channelPartials, groupPartials;
  unsigned length, pieceCount, groups, channels, perGroup;

  void compute(unsigned worker) {
    const Share<P> share = {&groupMean[0], &groupInverse[0], &beta[0], &gamma[0], &mean[0], &inverse[0], perGroup};
    float *byChannel = &channelPartials[worker * channels * 4];
    float *byGroup = &groupPartials[worker * groups * 2];
    for (unsigned i = 0; i < channels * 4; ++i)
      byChannel[i] = 0;
    for (unsigned i = 0; i < groups * 2; ++i)
      byGroup[i] = 0;
    BackwardSumsSweep<T, P, kActivation<Silu>> sweep = {&x[0], &grad[0], byChannel, byGroup, share};
    sweepPieces(sweep, &pieces[0], pieceCount, length, worker, numWorkers());
  }
};

// The gradient of x, given the groups' sums [groups][2] over all tiles.
template <typename T, typename P, bool Silu> class BackwardInput : public poplar::MultiVertex {
public:
  Input<Vector<T, ONE_PTR, 8>> x, grad;
  Input<Vector<unsigned short, ONE_PTR, 8>> pieces;
  Input<Vector<float, ONE_PTR, 8>> groupMean, groupInverse;
  Input<Vector<P, ONE_PTR, 8>> beta, gamma;
  Input<Vector<float, ONE_PTR, 8>> mean, inverse, groupSums;
  Output<Vector<T, ONE_PTR, 8>> gradX;
  unsigned length, pieceCount, perGroup;
  float share; // one over the group's elements

  void compute(unsigned worker) {
    const Share<P> tile = {&groupMean[0], &groupInverse[0], &beta[0], &gamma[0], &mean[0], &inverse[0], perGroup};
    BackwardInputSweep<T, P, kActivation<Silu>> sweep = {&x[0], &grad[0], &groupSums[0], &gradX[0], share, tile};
    sweepPieces(sweep, &pieces[0], pieceCount, length, worker, numWorkers());
  }
};

// Gradients of beta and gamma (direct) and of m and s of `rows` channels, from partials [parts][rows][4].
template <typename P> class FinishChannels : public poplar::MultiVertex {
public:
  Input<Vector<float, ONE_PTR, 8>> partials, mean, inverse;
  Output<Vector<P, ONE_PTR, 8>> gradBeta, gradGamma;
  Output<Vector<float, ONE_PTR, 8>> gradMean, gradInverse;
  unsigned rows, parts;

  void compute(unsigned worker) {
    const PairRange range(rows, worker, numWorkers());
    for (unsigned row = range.begin; row < range.end; ++row) {
      alignas(8) float sums[4]; // of d, d phi(z), d phi'(z) and d phi'(z) y
      addParts<4>(&partials[row * 4], parts, rows * 4, sums);
      gradBeta[row] = P(inverse[row] * sums[2]);
      gradGamma[row] = P(inverse[row] * sums[3]);
      gradMean[row] = -inverse[row] * sums[0];
      gradInverse[row] = sums[1] - mean[row] * sums[0];
    }
  }
};

// ---- Every combination that the lowerings name --------------------------------------------------------------

template class ReluProxy<half>;
template class ReluProxy<float>;
template class ReluSlopes<half>;
template class ReluSlopes<float>;
template class SiluProxySums<half, false>;
template class SiluProxySums<half, true>;
template class SiluProxySums<float, false>;
template class SiluProxySums<float, true>;
template class SiluProxy<half>;
template class SiluProxy<float>;
template class ProxyGradients<half>;
template class ProxyGradients<float>;
template class FinishChannels<half>;
template class FinishChannels<float>;
template class GroupSums<half>;
template class GroupSums<float>;
template class FinishStatistics<half>;
template class FinishStatistics<float>;

#define PROXY_NORM_PASS(T, P, Silu)                                                                               \
  template class ProxyNormForward<T, P, Silu>;                                                                    \
  template class BackwardSums<T, P, Silu>;                                                                        \
  template class BackwardInput<T, P, Silu>;
PROXY_NORM_PASS(half, half, false)
PROXY_NORM_PASS(half, half, true)
PROXY_NORM_PASS(half, float, false)
PROXY_NORM_PASS(half, float, true)
PROXY_NORM_PASS(float, float, false)
PROXY_NORM_PASS(float, float, true)
#undef PROXY_NORM_PASS

} // namespace proxy_norm
