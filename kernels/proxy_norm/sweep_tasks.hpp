// What is done to the elements that a vertex goes over (sweep.hpp says how it does), and the proxies' sums.
//
// What an element needs to know is ready for each row, in the elements' own type (see BackwardCoefficients and the
// like): a column begins with loads and no arithmetic, and nothing is divided on the way.
#pragma once

#include "proxy_norm_math.hpp"
#include "sweep.hpp"

#include <poplar/HalfFloat.hpp>

namespace proxy_norm {

// Adds `parts` of a sum of an even number of floats, `stride` apart.
template <unsigned values> inline void addParts(const float *in, unsigned parts, unsigned stride, float *out) {
#ifdef __IPU__
  for (unsigned k = 0; k < values; k += 2) {
    float2 sum = {0, 0};
    for (unsigned part = 0; part < parts; ++part)
      sum += fetch<float2>(in, part * stride + k);
    put(out, k, sum);
  }
#else
  for (unsigned k = 0; k < values; ++k) {
    out[k] = 0;
    for (unsigned part = 0; part < parts; ++part)
      out[k] += in[part * stride + k];
  }
#endif
}

// The sums over one of `slices` parts of some points.
template <Activation A>
inline ProxySums<float> proxySums(const ProxyArgument<float> &at, const ProxyPoints<float> &proxy, unsigned slice,
                                  unsigned slices) {
  const WordRange range(unsigned(proxy.count), 2, slice, slices);
  const float origin = Phi<A>::value(at.mu);
  ProxySums<float> sums;
  unsigned i = range.begin;
#ifdef __IPU__
  auto pairs = zip<ProxySums<float2>>(sums, sums);
  for (; i + 2 <= range.end; i += 2)
    addProxyPoint<A>(at, origin, fetch<float2>(proxy.points, i), fetch<float2>(proxy.weights, i), pairs);
  sums = unzip<ProxySums<float>>(pairs, 0) + unzip<ProxySums<float>>(pairs, 1);
#endif
  for (; i < range.end; ++i)
    addProxyPoint<A>(at, origin, proxy.points[i], proxy.weights[i], sums);
  return sums;
}

// A group's shift: the mean of some of its elements, rounded to their type. Sums are taken relative to it, which keeps
// a variance accurate when the mean is far from zero, and so it stays if one of them is an outlier.
template <typename T> inline T shiftOf(const T *samples, unsigned count) {
  float sum = 0;
  for (unsigned i = 0; i < count; ++i)
    sum += float(samples[i]);
  return T(sum / float(count));
}

// What rounding to T takes from a value.
template <typename T> inline float roundedOff(float value) { return value - float(T(value)); }

// ---- The sweeps: a task is for one row (V = float), or for a vector of rows or pixels.

template <typename T> struct GroupSumsSweep {
  template <typename V> struct Task {
    V shift;
    Sum<V> sum, square;
  };
  const T *x, *samples;
  const unsigned short *groupOfRow;
  float *partials; // [groups][2]
  unsigned sampleCount;

  T shift(unsigned row) const { return shiftOf(samples + groupOfRow[row] * sampleCount, sampleCount); }
  template <typename At, typename V> void start(Task<V> &task, unsigned row, unsigned lanes) const {
    T shifts[4]; // of each lane: neighbours are mostly of one group
    for (unsigned lane = 0; lane < lanes; ++lane)
      shifts[lane] =
          lane > 0 && groupOfRow[row + lane] == groupOfRow[row + lane - 1] ? shifts[lane - 1] : shift(row + lane);
    task.shift = vectorOf<V>(shifts, lanes);
  }
  template <typename V> void one(Task<V> &task, unsigned i) const {
    const V u = fetch<V>(x, i) - task.shift;
    task.sum.add(u);
    task.square.addSquare(u);
  }
  template <typename V> void two(Task<V> &task, unsigned i, unsigned j) const {
    one(task, i);
    one(task, j);
  }
  template <typename V> void finish(const Task<V> &task, unsigned row, unsigned lanes, unsigned step) const {
    if (groupOfRow[row] == groupOfRow[row + (lanes - 1) * step])
      return add(row, task.sum.all(), task.square.all());
    for (unsigned lane = 0; lane < lanes; ++lane)
      add(row + lane * step, task.sum.lane(lane), task.square.lane(lane));
  }

private:
  void add(unsigned row, float sum, float square) const {
    float *out = partials + 2 * groupOfRow[row];
    out[0] += sum;
    out[1] += square;
  }
  template <typename V> static V vectorOf(const T *lanes, unsigned count) {
    alignas(8) T all[4];
    for (unsigned lane = 0; lane < 4; ++lane)
      all[lane] = lanes[lane < count ? lane : 0];
    return fetch<V>(all, 0);
  }
};

// Checked: adds z - z, which is zero but for NaN and infinity. With a norm that is not needed: such an element makes
// its group's mean a NaN, and with it the group's lift.
template <typename T, bool Checked> struct ReluForwardSweep {
  template <typename V> struct Task {
    V shift, slope, offset, lift;
  };
  const T *x;
  T *out;
  const T *shift, *slope, *offset, *lift;

  template <typename At, typename V> void start(Task<V> &task, unsigned row, unsigned) const {
    task = {At::load(shift, row), At::load(slope, row), At::load(offset, row), At::load(lift, row)};
  }
  template <typename V> void one(Task<V> &task, unsigned i) const {
    const V z = (fetch<V>(x, i) - task.shift) * task.slope + task.offset;
    const V y = Lanes<V>::larger(z, task.lift);
    put<V>(out, i, Checked ? V(y + (z - z)) : y);
  }
  template <typename V> void two(Task<V> &task, unsigned i, unsigned j) const {
    one(task, i);
    one(task, j);
  }
  template <typename V> void finish(const Task<V> &, unsigned, unsigned, unsigned) const {}
};

template <typename T> struct SiluForwardSweep {
  template <typename V> struct Task {
    V shift, slope, offset, scale, lift;
  };
  const T *x;
  T *out;
  const T *shift, *slope, *offset, *scale, *lift;

  template <typename At, typename V> void start(Task<V> &task, unsigned row, unsigned) const {
    task = {At::load(shift, row), At::load(slope, row), At::load(offset, row), At::load(scale, row),
            At::load(lift, row)};
  }
  template <typename V> void one(Task<V> &task, unsigned i) const {
    const V w = (fetch<V>(x, i) - task.shift) * task.slope + task.offset;
    put<V>(out, i, siluOfHalf(w) * task.scale + task.lift);
  }
  template <typename V> void two(Task<V> &task, unsigned i, unsigned j) const {
    one(task, i);
    one(task, j);
  }
  template <typename V> void finish(const Task<V> &, unsigned, unsigned, unsigned) const {}
};

// What both backward sweeps know of a row, see BackwardCoefficients. u = (x - shift) * scale is the normalised value, times
// the sign of gamma for ReLU.
template <typename T> struct BackwardRows {
  const T *shift, *scale, *bend, *turn, *direct;
};
template <Activation A, typename V> struct BackwardTask {
  V shift, scale, bend, turn;
  template <typename At, typename T> void start(const BackwardRows<T> &rows, unsigned row) {
    shift = At::load(rows.shift, row);
    scale = At::load(rows.scale, row);
    bend = At::load(rows.bend, row);
    turn = At::load(rows.turn, row);
  }
  // d phi'(z); for SiLU twice that, and d phi(z).
  V slope(V u, V d, V &dPhi) const {
    if constexpr (A == Activation::Relu) {
      return where(u, bend, d);
    } else {
      V phi, slope;
      siluOfHalf(V(u * bend + turn), phi, slope);
      dPhi = d * phi;
      return d * slope;
    }
  }
};

template <typename T, Activation A> struct BackwardSumsSweep {
  template <typename V> struct Task {
    BackwardTask<A, V> at;
    Sum<V> d, dPhi, dSlope, dSlopeU;
  };
  const T *x, *grad;
  T *gradX; // keeps d phi'(z), or twice that, until the gradient of x takes its place
  BackwardRows<T> rows;
  const float *groupMean, *groupInverse;
  const unsigned short *channelOfRow, *groupOfRow;
  float *byChannel, *byGroup; // [channels][4], [groups][2]

  template <typename At, typename V> void start(Task<V> &task, unsigned row, unsigned) const {
    task.at.template start<At>(rows, row);
  }
  template <typename V> V terms(const Task<V> &task, unsigned i, V &d, V &dPhi, V &dSlope) const {
    const V u = (fetch<V>(x, i) - task.at.shift) * task.at.scale;
    d = fetch<V>(grad, i);
    dSlope = task.at.slope(u, d, dPhi);
    put<V>(gradX, i, dSlope);
    return dSlope * u;
  }
  template <typename V> void one(Task<V> &task, unsigned i) const {
    V d, dPhi, dSlope;
    const V dSlopeU = terms(task, i, d, dPhi, dSlope);
    task.d.add(d);
    if (A != Activation::Relu)
      task.dPhi.add(dPhi);
    task.dSlope.add(dSlope);
    task.dSlopeU.add(dSlopeU);
  }
  template <typename V> void two(Task<V> &task, unsigned i, unsigned j) const { together<2>(task, i, j - i); }
  template <typename V> void four(Task<V> &task, unsigned i, unsigned stride) const { together<4>(task, i, stride); }
  // What the lanes of one row have is one sum.
  template <typename V> void finish(const Task<V> &task, unsigned row, unsigned lanes, unsigned step) const {
    if (step == 0)
      return add(row, task.d.all(), task.dPhi.all(), task.dSlope.all(), task.dSlopeU.all());
    for (unsigned lane = 0; lane < lanes; ++lane)
      add(row + lane, task.d.lane(lane), task.dPhi.lane(lane), task.dSlope.lane(lane), task.dSlopeU.lane(lane));
  }

private:
  // What a few elements have is added in their own type first: half the conversions, or a quarter.
  template <unsigned count, typename V> void together(Task<V> &task, unsigned i, unsigned stride) const {
    V d[count], dPhi[count], dSlope[count], dSlopeU[count];
    for (unsigned k = 0; k < count; ++k)
      dSlopeU[k] = terms(task, i + k * stride, d[k], dPhi[k], dSlope[k]);
    task.d.add(total(d));
    if (A != Activation::Relu)
      task.dPhi.add(total(dPhi));
    task.dSlope.add(total(dSlope));
    task.dSlopeU.add(total(dSlopeU));
  }
  template <typename V> static V total(const V (&v)[2]) { return v[0] + v[1]; }
  template <typename V> static V total(const V (&v)[4]) { return (v[0] + v[1]) + (v[2] + v[3]); }
  void add(unsigned row, float d, float dPhi, float dSlope, float dSlopeU) const {
    const unsigned c = channelOfRow[row], g = groupOfRow[row];
    float *channel = byChannel + 4 * c, *group = byGroup + 2 * g;
    if (A == Activation::Silu) { // they were twice that
      dSlope *= 0.5f;
      dSlopeU *= 0.5f;
    }
    const float sign = A == Activation::Relu ? float(rows.turn[row]) : 1.0f;
    const float dSlopeY = sign * dSlopeU - roundedOff<T>(groupMean[g]) * groupInverse[g] * dSlope;
    channel[0] += d;
    channel[1] += dPhi;
    channel[2] += dSlope;
    channel[3] += dSlopeY;
    const float direct = float(rows.direct[row]);
    group[0] += direct * dSlope;
    group[1] += direct * dSlopeY;
  }
};

template <typename T, Activation A> constexpr bool kInFours<BackwardSumsSweep<T, A>> = true;

// Finds d phi'(z) in gradX (for SiLU twice that): neither the activation's argument nor its derivative is computed once more.
template <typename T, Activation A> struct BackwardInputSweep {
  template <typename V> struct Task {
    V shift, scale, direct, byU, constant;
  };
  const T *x;
  T *gradX;
  const T *shift, *scale, *turn, *direct, *byU, *constant;

  template <typename At, typename V> void start(Task<V> &task, unsigned row, unsigned) const {
    task = {At::load(shift, row), At::load(scale, row), At::load(direct, row), At::load(byU, row),
            At::load(constant, row)};
    if (A == Activation::Relu)
      task.byU = task.byU * At::load(turn, row);
    else
      task.direct = task.direct * splat<V>(0.5f);
  }
  template <typename V> void one(Task<V> &task, unsigned i) const {
    const V u = (fetch<V>(x, i) - task.shift) * task.scale;
    put<V>(gradX, i, fetch<V>(gradX, i) * task.direct + (u * task.byU + task.constant));
  }
  template <typename V> void two(Task<V> &task, unsigned i, unsigned j) const {
    one(task, i);
    one(task, j);
  }
  template <typename V> void finish(const Task<V> &, unsigned, unsigned, unsigned) const {}
};

} // namespace proxy_norm
