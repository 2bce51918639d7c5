// Estimated cycles of the vertices, from the operations of their inner loops on an IPU.
//
// Six workers take turns: each issues one bundle (one load, store or integer operation and one floating-point
// operation) every six cycles, so a vertex takes six times its slowest worker's bundles. What is counted are the
// floating-point operations on pairs (float2) and the loads and stores with the loop's bookkeeping; the larger of
// the two decides. An estimate on paper: nothing here was timed on an IPU.
#pragma once

#include "layout.hpp"

#include <algorithm>
#include <cstdint>

namespace proxy_norm {
namespace cycles {

constexpr std::uint64_t kWorkers = 6;
constexpr std::uint64_t kStart = 60;  // cycles to start the workers and wait for them
constexpr std::uint64_t kPiece = 30;  // bundles to find a piece's part of a worker
constexpr std::uint64_t kColumn = 40; // bundles to set up a column's task and to finish it
// A pair of floats through the sigmoid: 12 cycles in PopLibs' table of element-wise operations.
constexpr std::uint64_t kSigmoidPair = 12;

// Bundles for a pair of elements of each sweep. Halves add a conversion for each tensor read or written.
struct Pair {
  std::uint64_t arithmetic, memory;
  std::uint64_t bundles(bool half, unsigned tensors) const {
    return std::max(arithmetic + (half ? tensors : 0), memory);
  }
};

inline std::uint64_t groupSums(bool half) { return Pair{4, 3}.bundles(half, 1); }
inline std::uint64_t forward(bool half, bool silu, bool proxy) {
  // subtract, multiply, add, then max; or sigmoid, multiply and, with Proxy Norm, subtract and multiply
  return Pair{silu ? 4 + kSigmoidPair + (proxy ? 2 : 0) : 4u, 4}.bundles(half, 2);
}
inline std::uint64_t backwardSums(bool half, bool silu, bool proxy) {
  // u, z (3), the slope (compare and select 2; SiLU: sigmoid, phi and 3), d phi' (1), its sum (1), with u (2);
  // Proxy Norm adds the sum of d (1) and, for SiLU, that of d phi (2)
  return Pair{7 + (silu ? kSigmoidPair + 4 : 2) + (proxy ? (silu ? 3 : 1) : 0), 4}.bundles(half, 2);
}
inline std::uint64_t backwardInput(bool half, bool silu) {
  // u, z (3), the slope, d phi' times a factor (2), u times a factor (1), two additions
  return Pair{8 + (silu ? kSigmoidPair + 4 : 2), 5}.bundles(half, 3);
}

// A sweep over a run of memory, at `perPair` bundles for a pair of elements.
inline std::uint64_t sweep(const TileRun &run, std::uint64_t perPair) {
  std::uint64_t slowest = 0;
  const std::uint64_t pairs = (run.length + 1) / 2;
  for (std::uint64_t worker = 0; worker < kWorkers; ++worker) {
    const std::uint64_t begin = pairs * worker / kWorkers * 2;
    const std::uint64_t end = std::min<std::uint64_t>(pairs * (worker + 1) / kWorkers * 2, run.length);
    std::uint64_t bundles = 0, at = 0;
    for (std::size_t p = 0; p < run.pieces.size(); p += TileRun::kNumbers) {
      const std::uint64_t width = run.pieces[p + 3], size = width * run.pieces[p + 4];
      const std::uint64_t b = std::max(begin, at), e = std::min(end, at + size);
      if (b < e) {
        const bool paired = width == 1 || (width % 2 == 0 && at % 2 == 0);
        const std::uint64_t columns = std::min(width == 1 || !paired ? width : width / 2, e - b);
        bundles += kPiece + columns * kColumn + (paired ? (e - b + 1) / 2 : e - b) * perPair;
      }
      at += size;
    }
    slowest = std::max(slowest, bundles);
  }
  return kStart + kWorkers * slowest;
}

// `items` handed to the workers in turn, each of `count` additions of `values` values, two at a time.
inline std::uint64_t sums(std::size_t items, std::size_t count, std::size_t values, std::uint64_t finish = 10) {
  const std::uint64_t perWorker = (items + kWorkers - 1) / kWorkers;
  return kStart + kWorkers * perWorker * (values / 2 * (count + 4) + finish);
}

// ReLU's proxy of one channel: the bisection reads and compares, then two polynomials or their derivatives.
inline std::uint64_t reluProxy(std::size_t rows, std::size_t points) {
  std::uint64_t steps = 0;
  for (std::size_t n = points; n > 0; n /= 2)
    ++steps;
  const std::uint64_t perRow = points == 0 ? 160 : 6 * steps + 35; // the closed form calls exp and erfc
  return kStart + kWorkers * ((rows + kWorkers - 1) / kWorkers) * perRow;
}

// SiLU's sums over some pairs of points, for ordinary deviations: argument 2, sigmoid, phi and its two sums 5;
// with slopes phi' 2 and four more sums 10.
inline std::uint64_t siluProxySums(std::size_t items, std::size_t pairs, bool slopes) {
  const std::uint64_t perPair = 2 + kSigmoidPair + 5 + (slopes ? 12 : 0);
  return kStart + kWorkers * ((items + kWorkers - 1) / kWorkers) * (40 + pairs * perPair);
}

} // namespace cycles
} // namespace proxy_norm
