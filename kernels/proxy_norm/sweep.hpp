// How a vertex goes over the elements of its tile, and what it does to them.
//
// A vertex's elements are one run of memory, described as pieces: rows of neighbouring channels of one instance.
// Plain layouts give pieces of width 1 (a stretch of one channel's pixels); after a convolution, channels come in
// groups of 8 or 16 for each pixel. A worker takes a stretch of whole pairs of elements, so that no two workers
// store to one word (a half is half a word), and goes over a piece column by column: one channel at a time, or, on
// an IPU, a pair of channels or pixels.
#pragma once

#include "ipu_vectors.hpp"
#include "proxy_norm_math.hpp"

#include <poplar/HalfFloat.hpp>

namespace proxy_norm {

// A worker's part of `count` values that pairs of which may share a word.
struct PairRange {
  PairRange(unsigned count, unsigned worker, unsigned workers) {
    const unsigned pairs = (count + 1) / 2;
    begin = pairs * worker / workers * 2;
    end = pairs * (worker + 1) / workers * 2;
    end = end < count ? end : count;
  }
  unsigned begin, end;
};

// `reps` rows of `width` channels. Groups and channels are numbered as this tile holds them.
struct Piece {
  unsigned begin;              // of its elements
  unsigned group, groupOffset; // the first channel's group, and the channel's place in it
  unsigned channel, width;
};

inline unsigned groupOf(const Piece &piece, unsigned lane, unsigned perGroup) {
  return piece.group + (piece.groupOffset + lane) / perGroup;
}

// What this tile knows of its groups and channels.
template <typename P> struct Share {
  const float *groupMean, *groupInverse;
  const P *beta, *gamma;
  const float *mean, *inverse;
  unsigned perGroup;

  unsigned group(const Piece &piece, unsigned lane) const { return groupOf(piece, lane, perGroup); }
  Run<float> run(const Piece &piece, unsigned lane) const {
    const unsigned g = group(piece, lane), c = piece.channel + lane;
    return {groupMean[g], float(gamma[c]) * groupInverse[g], float(beta[c]), mean[c], inverse[c]};
  }
};

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
  const PairRange range(unsigned(proxy.count), slice, slices);
  const float origin = Phi<A>::value(at.mu);
  ProxySums<float> sums;
  unsigned i = range.begin;
#ifdef __IPU__
  auto pairs = zip<ProxySums<float2>>(sums, sums);
  for (; i + 2 <= range.end; i += 2)
    addProxyPoint<A>(at, origin, fetch<float2>(proxy.points, i), fetch<float2>(proxy.weights, i), pairs);
  const auto even = unzip<ProxySums<float>>(pairs, 0), odd = unzip<ProxySums<float>>(pairs, 1);
  sums = {even.value + odd.value,           even.square + odd.square,   even.slope + odd.slope,
          even.slopePoint + odd.slopePoint, even.product + odd.product, even.productPoint + odd.productPoint};
#endif
  for (; i < range.end; ++i)
    addProxyPoint<A>(at, origin, proxy.points[i], proxy.weights[i], sums);
  return sums;
}

// ---- What is done to the elements: a task for one channel (V = float) or for a vector of channels or pixels.
// Tasks hold nothing but Vs, so that tasks of single channels can be zipped to one for a vector.

template <typename T> struct GroupSumsSweep {
  template <typename V> struct Task {
    V shift, sum, square;
  };
  const T *x, *shift;
  float *partials;
  unsigned perGroup;

  Task<float> start(const Piece &piece, unsigned lane) const {
    return {float(shift[groupOf(piece, lane, perGroup)]), 0, 0};
  }
  template <typename V> void step(Task<V> &task, unsigned i) const {
    const V u = fetch<V>(x, i) - task.shift;
    task.sum += u;
    task.square += u * u;
  }
  void finish(const Piece &piece, unsigned lane, const Task<float> &task) const {
    float *out = partials + 2 * groupOf(piece, lane, perGroup);
    out[0] += task.sum;
    out[1] += task.square;
  }
};

template <typename T, typename P, Activation A> struct ForwardSweep {
  template <typename V> struct Task {
    Forward<A, V> apply;
  };
  const T *x;
  T *out;
  Share<P> share;

  Task<float> start(const Piece &piece, unsigned lane) const {
    return {Forward<A, float>(share.run(piece, lane))};
  }
  template <typename V> void step(Task<V> &task, unsigned i) const { put<V>(out, i, task.apply(fetch<V>(x, i))); }
  void finish(const Piece &, unsigned, const Task<float> &) const {}
};

template <typename T, typename P, Activation A> struct BackwardSumsSweep {
  template <typename V> struct Task {
    Run<V> run;
    RunSums<V> sums;
  };
  const T *x, *grad;
  float *byChannel, *byGroup;
  Share<P> share;

  Task<float> start(const Piece &piece, unsigned lane) const { return {share.run(piece, lane), {}}; }
  template <typename V> void step(Task<V> &task, unsigned i) const {
    addToSums<A>(task.run, fetch<V>(x, i), fetch<V>(grad, i), task.sums);
  }
  void finish(const Piece &piece, unsigned lane, const Task<float> &task) const {
    const unsigned g = share.group(piece, lane), c = piece.channel + lane;
    float *channel = byChannel + 4 * c, *group = byGroup + 2 * g;
    channel[0] += task.sums.d;
    channel[1] += dPhiOf<A>(task.run, task.sums);
    channel[2] += task.sums.dSlope;
    channel[3] += task.sums.dSlopeU * share.groupInverse[g];
    const float factor = float(share.gamma[c]) * share.inverse[c];
    group[0] += factor * task.sums.dSlope;
    group[1] += factor * task.sums.dSlopeU;
  }
};

template <typename T, typename P, Activation A> struct BackwardInputSweep {
  template <typename V> struct Task {
    Run<V> run;
    InputGradient<V> by;
  };
  const T *x, *grad;
  const float *groupSums;
  T *gradX;
  float perElement; // one over the group's elements
  Share<P> share;

  Task<float> start(const Piece &piece, unsigned lane) const {
    const unsigned g = share.group(piece, lane);
    const Run<float> run = share.run(piece, lane);
    const float r = share.groupInverse[g];
    return {run,
            {run.slope * run.inverse, -r * r * r * perElement * groupSums[2 * g + 1],
             -r * perElement * groupSums[2 * g]}};
  }
  template <typename V> void step(Task<V> &task, unsigned i) const {
    put<V>(gradX, i, inputGradient<A>(task.run, task.by, fetch<V>(x, i), fetch<V>(grad, i)));
  }
  void finish(const Piece &, unsigned, const Task<float> &) const {}
};

// ---- The walk ----------------------------------------------------------------------------------------------

#ifdef __IPU__
// A stretch of one channel: pairs of elements, and what is left over at either end one by one.
template <typename Sweep>
inline void sweepStretch(Sweep &sweep, const Piece &piece, unsigned begin, unsigned end) {
  auto single = sweep.start(piece, 0);
  auto pair = zip<typename Sweep::template Task<float2>>(single, single);
  unsigned i = begin;
  if (i % 2 != 0)
    sweep.template step<float>(single, i++);
  for (; i + 2 <= end; i += 2)
    sweep.template step<float2>(pair, i);
  if (i < end)
    sweep.template step<float>(single, i);
  sweep.finish(piece, 0, single);
  sweep.finish(piece, 0, unzip<typename Sweep::template Task<float>>(pair, 0));
  sweep.finish(piece, 0, unzip<typename Sweep::template Task<float>>(pair, 1));
}
#endif

// Elements [begin, end) of a piece.
template <typename Sweep> inline void sweepPiece(Sweep &sweep, const Piece &piece, unsigned begin, unsigned end) {
  const unsigned row = (begin - piece.begin) / piece.width, column = (begin - piece.begin) % piece.width;
  const auto firstOf = [&](unsigned lane) { // the first element of a column
    return piece.begin + (lane < column ? row + 1 : row) * piece.width + lane;
  };
#ifdef __IPU__
  if (piece.width == 1)
    return sweepStretch(sweep, piece, begin, end);
  if (piece.width % 2 == 0 && piece.begin % 2 == 0) { // then begin and end are even too
    for (unsigned lane = 0; lane < piece.width; lane += 2) {
      auto pair =
          zip<typename Sweep::template Task<float2>>(sweep.start(piece, lane), sweep.start(piece, lane + 1));
      for (unsigned i = firstOf(lane); i < end; i += piece.width)
        sweep.template step<float2>(pair, i);
      sweep.finish(piece, lane, unzip<typename Sweep::template Task<float>>(pair, 0));
      sweep.finish(piece, lane + 1, unzip<typename Sweep::template Task<float>>(pair, 1));
    }
    return;
  }
#endif
  for (unsigned lane = 0; lane < piece.width; ++lane) {
    auto single = sweep.start(piece, lane);
    for (unsigned i = firstOf(lane); i < end; i += piece.width)
      sweep.template step<float>(single, i);
    sweep.finish(piece, lane, single);
  }
}

// A worker's part of a run of `length` elements. pieces: group, its offset, channel, width and reps of each.
template <typename Sweep>
inline void sweepPieces(Sweep &sweep, const unsigned short *pieces, unsigned pieceCount, unsigned length,
                        unsigned worker, unsigned workers) {
  const PairRange range(length, worker, workers);
  unsigned at = 0;
  for (unsigned p = 0; p < pieceCount && at < range.end; ++p, pieces += 5) {
    const Piece piece = {at, pieces[0], pieces[1], pieces[2], pieces[3]};
    at += piece.width * pieces[4];
    const unsigned begin = range.begin > piece.begin ? range.begin : piece.begin;
    const unsigned end = range.end < at ? range.end : at;
    if (begin < end)
      sweepPiece(sweep, piece, begin, end);
  }
}

} // namespace proxy_norm
