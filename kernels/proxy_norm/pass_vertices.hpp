// The vertices that go over the activations, and what comes before and after: see codelets.cpp.
#pragma once

#include "proxy_vertices.hpp"

namespace proxy_norm {

// ---- The group norm's statistics --------------------------------------------------------------------------

// Each worker's sums of x - shift and of its square, for each group of this tile: partials [6][groups][2].
template <typename T> class GroupSums : public poplar::MultiVertex {
public:
  Input<Vector<T, ONE_PTR, 8>> x;
  Input<Vector<unsigned short, ONE_PTR, 8>> pieces, groupOfRow;
  Input<Vector<T, ONE_PTR, 8>> samples; // [groups][sampleCount]
  InOut<Vector<float, ONE_PTR, 8>> partials;
  unsigned length, pieceCount, groups, sampleCount;

  void compute(unsigned worker) {
    float *mine = &partials[worker * groups * 2];
    for (unsigned i = 0; i < groups * 2; ++i)
      mine[i] = 0;
    GroupSumsSweep<T> sweep = {&x[0], &samples[0], &groupOfRow[0], mine, sampleCount};
    sweepPieces<T>(sweep, &pieces[0], pieceCount, length, worker, numWorkers());
  }
};

// Mean and inverse deviation of `rows` groups from `parts` partial sums each: partials [parts][rows][2].
template <typename T> class FinishStatistics : public poplar::MultiVertex {
public:
  Input<Vector<float, ONE_PTR, 8>> partials;
  Input<Vector<T, ONE_PTR, 8>> samples;
  Output<Vector<float, ONE_PTR, 8>> mean, inverse;
  unsigned rows, parts, sampleCount;
  float share, eps; // one over the group's elements

  void compute(unsigned worker) {
    for (unsigned row = worker; row < rows; row += numWorkers()) {
      alignas(8) float sums[2];
      addParts<2>(&partials[row * 2], parts, rows * 2, sums);
      const float offset = sums[0] * share;
      const float variance = sums[1] * share - offset * offset;
      mean[row] = float(shiftOf(&samples[row * sampleCount], sampleCount)) + offset;
      inverse[row] = inverseDeviation(variance < 0.0f ? 0.0f : variance, eps);
    }
  }
};

// ---- What an element needs to know, row by row ---------------------------------------------------------------

// The largest value that may be asked for without overflow: where halves overflow they may become NaN.
template <typename T> constexpr float kLargest = 3e38f;
template <> constexpr float kLargest<half> = 6e4f;
template <typename T> inline T saturated(float value) { // a NaN stays one
  return T(value > kLargest<T> ? kLargest<T> : value < -kLargest<T> ? -kLargest<T> : value);
}

// ReLU: out = max((x - shift) slope + offset, lift), as s is positive: scale and shift of Proxy Norm pass through the
// maximum, and cost no operation more than affine and ReLU. What rounding takes from the shift returns in the offset.
template <typename T, typename P> class ReluCoefficients : public poplar::MultiVertex {
public:
  Input<Vector<float, ONE_PTR, 8>> groupMean, groupInverse, mean, inverse;
  Input<Vector<P, ONE_PTR, 8>> beta, gamma;
  Output<Vector<T, ONE_PTR, 8>> shift, slope, offset, lift;
  unsigned rows;

  void compute(unsigned worker) {
    const WordRange range(rows, 4, worker, numWorkers());
    for (unsigned row = range.begin; row < range.end; ++row) {
      const float center = groupMean[row], steep = groupInverse[row] * float(gamma[row]) * inverse[row];
      shift[row] = T(center);
      slope[row] = saturated<T>(steep);
      offset[row] = saturated<T>((float(beta[row]) - mean[row]) * inverse[row] - roundedOff<T>(center) * steep);
      lift[row] = saturated<T>(-mean[row] * inverse[row] + (center - center)); // NaN if the mean is none
    }
  }
};

// SiLU: out = phi(2 ((x - shift) slope + offset)) scale + lift: see siluOfHalf.
template <typename T, typename P> class SiluCoefficients : public poplar::MultiVertex {
public:
  Input<Vector<float, ONE_PTR, 8>> groupMean, groupInverse, mean, inverse;
  Input<Vector<P, ONE_PTR, 8>> beta, gamma;
  Output<Vector<T, ONE_PTR, 8>> shift, slope, offset, scale, lift;
  unsigned rows;

  void compute(unsigned worker) {
    const WordRange range(rows, 4, worker, numWorkers());
    for (unsigned row = range.begin; row < range.end; ++row) {
      const float center = groupMean[row], steep = 0.5f * groupInverse[row] * float(gamma[row]);
      shift[row] = T(center);
      slope[row] = saturated<T>(steep);
      offset[row] = saturated<T>(0.5f * float(beta[row]) - roundedOff<T>(center) * steep);
      scale[row] = saturated<T>(inverse[row]);
      lift[row] = saturated<T>(-mean[row] * inverse[row]);
    }
  }
};

// Backward: u = (x - shift) scale, and d phi'(z) direct is what the norm's gradient gets, times the group's inverse
// deviation. SiLU: z / 2 = u bend + turn. ReLU: u has the sign `turn` of gamma, and z > 0 where u > bend.
template <typename T, typename P, bool Silu> class BackwardCoefficients : public poplar::MultiVertex {
public:
  Input<Vector<float, ONE_PTR, 8>> groupMean, groupInverse, inverse;
  Input<Vector<P, ONE_PTR, 8>> beta, gamma;
  Output<Vector<T, ONE_PTR, 8>> shift, scale, bend, turn, direct;
  unsigned rows;

  void compute(unsigned worker) {
    const WordRange range(rows, 4, worker, numWorkers());
    for (unsigned row = range.begin; row < range.end; ++row) {
      const float center = groupMean[row], r = groupInverse[row], g = float(gamma[row]);
      const float offset = float(beta[row]) - roundedOff<T>(center) * r * g; // z = u g + offset
      const float sign = g < 0.0f ? -1.0f : 1.0f;
      shift[row] = T(center);
      scale[row] = saturated<T>(Silu ? r : r * sign);
      bend[row] = saturated<T>(Silu ? 0.5f * g : g == 0.0f ? (offset > 0.0f ? -1e30f : 1e30f) : -offset / (g * sign));
      turn[row] = saturated<T>(Silu ? 0.5f * offset : sign);
      direct[row] = saturated<T>(g * inverse[row] * r);
    }
  }
};

// ---- The passes over the activations ----------------------------------------------------------------------

template <typename T> class ReluForward : public poplar::MultiVertex {
public:
  Input<Vector<T, ONE_PTR, 8>> x, shift, slope, offset, lift;
  Input<Vector<unsigned short, ONE_PTR, 8>> pieces;
  Output<Vector<T, ONE_PTR, 8>> out;
  unsigned length, pieceCount, checked; // without a norm: see ReluForwardSweep

  void compute(unsigned worker) { checked != 0 ? run<true>(worker) : run<false>(worker); }

private:
  template <bool Checked> void run(unsigned worker) {
    ReluForwardSweep<T, Checked> sweep = {&x[0], &out[0], &shift[0], &slope[0], &offset[0], &lift[0]};
    sweepPieces<T>(sweep, &pieces[0], pieceCount, length, worker, numWorkers());
  }
};

template <typename T> class SiluForward : public poplar::MultiVertex {
public:
  Input<Vector<T, ONE_PTR, 8>> x, shift, slope, offset, scale, lift;
  Input<Vector<unsigned short, ONE_PTR, 8>> pieces;
  Output<Vector<T, ONE_PTR, 8>> out;
  unsigned length, pieceCount;

  void compute(unsigned worker) {
    SiluForwardSweep<T> sweep = {&x[0], &out[0], &shift[0], &slope[0], &offset[0], &scale[0], &lift[0]};
    sweepPieces<T>(sweep, &pieces[0], pieceCount, length, worker, numWorkers());
  }
};

// Each worker's sums for the backward pass, y the normalised value: by channel (sum d, sum d phi(z), sum d phi'(z),
// sum d phi'(z) y; for ReLU the second is zero) in channelPartials [6][channels][4], and by group those of the group
// norm's gradient (sum h, sum h y, with h = d phi'(z) direct) in groupPartials [6][groups][2].
template <typename T, bool Silu> class BackwardSums : public poplar::MultiVertex {
public:
  Input<Vector<T, ONE_PTR, 8>> x, grad, shift, scale, bend, turn, direct;
  Input<Vector<unsigned short, ONE_PTR, 8>> pieces, channelOfRow, groupOfRow;
  Input<Vector<float, ONE_PTR, 8>> groupMean, groupInverse;
  InOut<Vector<float, ONE_PTR, 8>> channelPartials, groupPartials;
  Output<Vector<T, ONE_PTR, 8>> gradX; // d phi'(z) for now
  unsigned length, pieceCount, groups, channels;

  void compute(unsigned worker) {
    float *byChannel = &channelPartials[worker * channels * 4];
    float *byGroup = &groupPartials[worker * groups * 2];
    for (unsigned i = 0; i < channels * 4; ++i)
      byChannel[i] = 0;
    for (unsigned i = 0; i < groups * 2; ++i)
      byGroup[i] = 0;
    BackwardSumsSweep<T, kActivation<Silu>> sweep = {&x[0],
                                                     &grad[0],
                                                     &gradX[0],
                                                     {&shift[0], &scale[0], &bend[0], &turn[0], &direct[0]},
                                                     &groupMean[0],
                                                     &groupInverse[0],
                                                     &channelOfRow[0],
                                                     &groupOfRow[0],
                                                     byChannel,
                                                     byGroup};
    sweepPieces<T>(sweep, &pieces[0], pieceCount, length, worker, numWorkers());
  }
};

// What the two sums of `rows` groups mean for each of their elements: dx = d phi'(z) direct + u byU + constant.
template <typename T> class FinishGroups : public poplar::MultiVertex {
public:
  Input<Vector<float, ONE_PTR, 8>> partials, groupMean, groupInverse; // partials [parts][rows][2]
  Output<Vector<T, ONE_PTR, 8>> byU, constant;
  unsigned rows, parts;
  float share; // one over the group's elements

  void compute(unsigned worker) {
    const WordRange range(rows, 2, worker, numWorkers());
    for (unsigned row = range.begin; row < range.end; ++row) {
      alignas(8) float sums[2];
      addParts<2>(&partials[row * 2], parts, rows * 2, sums);
      const float slope = -share * sums[1];
      byU[row] = saturated<T>(slope);
      constant[row] =
          saturated<T>(-share * sums[0] - roundedOff<T>(groupMean[row]) * groupInverse[row] * slope);
    }
  }
};

// The gradient of x, where the backward sums have left d phi'(z).
template <typename T, bool Silu> class BackwardInput : public poplar::MultiVertex {
public:
  Input<Vector<T, ONE_PTR, 8>> x, shift, scale, turn, direct, byU, constant;
  Input<Vector<unsigned short, ONE_PTR, 8>> pieces;
  InOut<Vector<T, ONE_PTR, 8>> gradX;
  unsigned length, pieceCount;

  void compute(unsigned worker) {
    BackwardInputSweep<T, kActivation<Silu>> sweep = {&x[0],    &gradX[0],  &shift[0], &scale[0],
                                                      &turn[0], &direct[0], &byU[0],   &constant[0]};
    sweepPieces<T>(sweep, &pieces[0], pieceCount, length, worker, numWorkers());
  }
};

// Gradients of beta and gamma (direct, of type G) and of m and s of `rows` channels, from partials [parts][rows][4].
template <typename P, typename G> class FinishChannels : public poplar::MultiVertex {
public:
  Input<Vector<float, ONE_PTR, 8>> partials, mean, inverse;
  Input<Vector<P, ONE_PTR, 8>> beta, gamma;
  Output<Vector<G, ONE_PTR, 8>> gradBeta, gradGamma;
  Output<Vector<float, ONE_PTR, 8>> gradMean, gradInverse;
  unsigned rows, parts, silu;

  void compute(unsigned worker) {
    const WordRange range(rows, 2, worker, numWorkers());
    for (unsigned row = range.begin; row < range.end; ++row) {
      alignas(8) float sums[4]; // of d, d phi(z), d phi'(z) and d phi'(z) y
      addParts<4>(&partials[row * 4], parts, rows * 4, sums);
      // ReLU: phi(z) = phi'(z) z
      const float dPhi = silu != 0 ? sums[1] : float(gamma[row]) * sums[3] + float(beta[row]) * sums[2];
      gradBeta[row] = G(inverse[row] * sums[2]);
      gradGamma[row] = G(inverse[row] * sums[3]);
      gradMean[row] = -inverse[row] * sums[0];
      gradInverse[row] = dPhi - mean[row] * sums[0];
    }
  }
};

} // namespace proxy_norm
