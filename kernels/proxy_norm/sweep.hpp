// How a vertex goes over the elements of its tile.
//
// A vertex's elements are one run of memory, described as pieces: neighbouring rows (channels of one instance), one
// element of each, so and so often. After a convolution, channels come in groups of 8 or 16 for each pixel: a worker
// takes 64 bits of rows at a time, down a column of pixels. Plain layouts give pieces one row wide (a stretch of one
// channel's pixels), of which a worker takes a stretch. Either way its elements are whole words of 64 bits, so that no
// two workers store to one word of 32 bits (a half is half a word).
//
// What is done to them is a sweep's business, see sweep_tasks.hpp.
#pragma once

#include "ipu_vectors.hpp"

namespace proxy_norm {

// A worker's part of `count` values, in whole words of `grain` values.
struct WordRange {
  WordRange(unsigned count, unsigned grain, unsigned worker, unsigned workers) {
    const unsigned words = (count + grain - 1) / grain; // grain: a power of two that the compiler knows
    begin = words * worker / workers * grain;
    end = words * (worker + 1) / workers * grain;
    end = end < count ? end : count;
  }
  unsigned begin, end;
};

// How a sweep loads what it needs to know of rows: from each lane's own row, or from the same row in all lanes.
template <typename V> struct EachRow { // lane i: row + i
  template <typename T> static V load(const T *values, unsigned row) { return fetch<V>(values, row); }
};
template <typename V> struct OneRow { // all lanes
  template <typename T> static V load(const T *values, unsigned row) { return splat<V>(float(values[row])); }
};

// Whether a sweep takes four elements together, which pays where it sums.
template <typename Sweep> constexpr bool kInFours = false;

// Elements begin, begin + stride, ... below end.
template <typename Sweep, typename Task>
inline void sweepColumn(Sweep &sweep, Task &task, unsigned begin, unsigned end, unsigned stride) {
  unsigned i = begin;
  if constexpr (kInFours<Sweep>)
    for (; i + 3 * stride < end; i += 4 * stride)
      sweep.four(task, i, stride);
  for (; i + stride < end; i += 2 * stride)
    sweep.two(task, i, i + stride);
  if (i < end)
    sweep.one(task, i);
}

// A column of `lanes` rows (step 1), or of one row in all lanes (step 0).
template <template <typename> class At, typename V, typename Sweep>
inline void sweepRows(Sweep &sweep, unsigned row, unsigned begin, unsigned end, unsigned stride, unsigned lanes,
                      unsigned step) {
  if (begin >= end)
    return;
  typename Sweep::template Task<V> task;
  sweep.template start<At<V>>(task, row, step == 0 ? 1 : lanes);
  sweepColumn(sweep, task, begin, end, stride);
  sweep.finish(task, row, lanes, step);
}

// Elements [begin, end) of one row.
template <typename T, typename Sweep>
inline void sweepStretch(Sweep &sweep, unsigned row, unsigned begin, unsigned end) {
#ifdef __IPU__
  using V = typename VectorOf<T>::Type;
  constexpr unsigned lanes = kLanesOf<V>;
  const unsigned inner = (begin + lanes - 1) / lanes * lanes, last = end / lanes * lanes;
  if (inner < last) {
    sweepRows<OneRow, float>(sweep, row, begin, inner, 1, 1, 0);
    sweepRows<OneRow, V>(sweep, row, inner, last, lanes, lanes, 0);
    sweepRows<OneRow, float>(sweep, row, last, end, 1, 1, 0);
    return;
  }
#endif
  sweepRows<OneRow, float>(sweep, row, begin, end, 1, 1, 0);
}

// A worker's columns of a piece of whole vectors: column after column, every so many pixels of each.
template <typename T, typename Sweep>
inline void sweepColumns(Sweep &sweep, unsigned first, unsigned row, unsigned width, unsigned pixels, unsigned task,
                         unsigned worker, unsigned workers) {
  constexpr unsigned lanes = 8 / sizeof(T);
  unsigned lane = worker * lanes, pixel = 0;
  while (true) {
    for (; lane >= width; lane -= width)
      pixel += task;
    if (pixel >= pixels)
      return;
    const unsigned some = pixels - pixel < task ? pixels - pixel : task;
    const unsigned begin = first + pixel * width + lane, end = begin + some * width;
#ifdef __IPU__
    sweepRows<EachRow, typename VectorOf<T>::Type>(sweep, row + lane, begin, end, width, lanes, 1);
#else
    for (unsigned i = 0; i < lanes; ++i)
      sweepRows<OneRow, float>(sweep, row + lane + i, begin + i, end + i, width, 1, 0);
#endif
    lane += workers * lanes;
  }
}

// A worker's part of a run of `length` elements. pieces: first row, width, pixels and pixels of a task of each.
template <typename T, typename Sweep>
inline void sweepPieces(Sweep &sweep, const unsigned short *pieces, unsigned pieceCount, unsigned length,
                        unsigned worker, unsigned workers) {
  const WordRange range(length, 8 / sizeof(T), worker, workers);
  unsigned first = 0;
  for (unsigned p = 0; p < pieceCount; ++p, pieces += 4) {
    const unsigned row = pieces[0], width = pieces[1], after = first + width * pieces[2];
    const unsigned begin = range.begin > first ? range.begin : first;
    const unsigned end = range.end < after ? range.end : after;
    if (pieces[3] != 0)
      sweepColumns<T>(sweep, first, row, width, pieces[2], pieces[3], worker, workers);
    else if (begin >= end)
      ; // others' words
    else if (width == 1)
      sweepStretch<T>(sweep, row, begin, end);
    else { // anywhere: one by one
      unsigned lane = (begin - first) % width;
      for (unsigned i = begin; i < end && i < begin + width; ++i, lane = lane + 1 == width ? 0 : lane + 1)
        sweepRows<OneRow, float>(sweep, row + lane, i, end, width, 1, 0);
    }
    first = after;
  }
}

} // namespace proxy_norm
