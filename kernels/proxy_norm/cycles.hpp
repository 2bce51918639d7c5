// Estimated cycles of the vertices, from the operations of their inner loops on an IPU.
//
// Six workers take turns: each issues one bundle (one load, store or integer operation and one floating-point
// operation) every six cycles, so a vertex takes six times its slowest worker's bundles. What is counted are the
// floating-point operations on vectors of 64 bits, as if the compiler put every load, store and branch beside one. An
// estimate on paper: nothing here was timed on an IPU.
#pragma once

#include "layout.hpp"

#include <algorithm>
#include <cstdint>

namespace proxy_norm {
namespace cycles {

constexpr std::uint64_t kWorkers = 6;
constexpr std::uint64_t kStart = 60; // cycles to start the workers and wait for them
constexpr std::uint64_t kPiece = 12; // bundles to find a piece's part of a worker
constexpr std::uint64_t kColumn = 8; // bundles of a column's loop beside what the sweep loads and keeps
// PopLibs' non-linearities count 5 cycles for a float's sigmoid or hyperbolic tangent, and one for two halves' tangent.
constexpr std::uint64_t kSigmoidFloats = 10, kTangentHalves = 2; // of a vector

// What a sweep costs: bundles for a vector (of four halves or two floats), which are arithmetic, as loads and stores
// are fewer; beyond those for sums, of one vector, of two taken together and of four; for the beginning and the end of
// a column, and for each of its rows at the end.
struct Cost {
  std::uint64_t vector, column, row;
  std::uint64_t sumOfOne = 0, sumOfTwo = 0, sumOfFour = 0;
  std::uint64_t of(std::uint64_t vectors) const {
    const std::uint64_t fours = sumOfFour == 0 ? 0 : vectors / 4, left = vectors - 4 * fours;
    return vectors * vector + fours * sumOfFour + left / 2 * sumOfTwo + left % 2 * sumOfOne;
  }
};

inline Cost groupSums(bool half) {
  // subtract, convert 2, and twice: add, multiply, add (floats: without conversion, once). A column begins with its
  // group's samples, and ends with one group's sums.
  return {half ? 9u : 4u, 24 + 16, 0};
}
inline Cost forward(bool half, bool silu) {
  // subtract, multiply, add, then max; or tangent, and twice multiply, add
  const std::uint64_t tangent = half ? kTangentHalves : kSigmoidFloats;
  return {silu ? 7 + tangent : 4, silu ? 6u : 5u, 0};
}
// u (2), then d phi': compare and mask (2); or z / 2 (2), tangent, phi (2), phi' (3), d phi' (1)
inline std::uint64_t gradient(bool half, bool silu) {
  return silu ? 10 + (half ? kTangentHalves : kSigmoidFloats) : 4;
}
inline Cost backwardSums(bool half, bool silu) {
  // d phi' u (1), and d phi (1); each sum of one vector: convert 2, add 2 (floats: add), and an addition for each more
  const std::uint64_t terms = gradient(half, silu) + (silu ? 2 : 1), sum = half ? 4 : 1, sums = silu ? 4 : 3;
  return {terms, 8, 22, sums * sum, sums * (sum + 1), sums * (sum + 3)};
}
inline Cost backwardInput() {
  // u (2), u times a factor, d phi', which is there, times a factor, two additions
  return {6, 10, 0};
}

// A sweep over a run of memory: see sweepPieces.
inline std::uint64_t sweep(const TileRun &run, const Cost &cost, bool half) {
  const std::uint64_t lanes = half ? 4 : 2, words = (run.length + lanes - 1) / lanes;
  std::uint64_t slowest = 0;
  for (std::uint64_t worker = 0; worker < kWorkers; ++worker) {
    const std::uint64_t begin = words * worker / kWorkers * lanes;
    const std::uint64_t end = std::min<std::uint64_t>(words * (worker + 1) / kWorkers * lanes, run.length);
    std::uint64_t bundles = 0, at = 0;
    const auto add = [&](std::uint64_t columns, std::uint64_t rows, std::uint64_t vectors) {
      bundles += columns * (kColumn + cost.column + rows * cost.row) + cost.of(vectors);
    };
    for (std::size_t p = 0; p < run.pieces.size(); p += TileRun::kNumbers) {
      const std::uint64_t width = run.pieces[p + 1], pixels = run.pieces[p + 2], task = run.pieces[p + 3];
      const std::uint64_t size = width * pixels, b = std::max(begin, at), e = std::min(end, at + size);
      bundles += kPiece;
      if (task != 0)
        for (std::uint64_t t = worker, columns = width / lanes; t < columns * ((pixels + task - 1) / task);
             t += kWorkers)
          add(1, lanes, std::min(task, pixels - t / columns * task));
      else if (b < e && width == 1)
        add(1, 1, (e - b + lanes - 1) / lanes);
      else if (b < e)
        add(std::min(width, e - b), 1, e - b);
      at += size;
    }
    slowest = std::max(slowest, bundles);
  }
  return kStart + kWorkers * slowest;
}

// What elements need to know of some rows: loads, a handful of products, conversions and stores for each.
inline std::uint64_t coefficients(std::size_t rows) {
  return kStart + kWorkers * ((rows + kWorkers - 1) / kWorkers) * 28;
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
  // the closed form has an exponential and a polynomial of degree 9
  const std::uint64_t perRow = points == 0 ? 160 : 6 * steps + 35;
  return kStart + kWorkers * ((rows + kWorkers - 1) / kWorkers) * perRow;
}

// SiLU's sums over some pairs of points, for ordinary deviations: argument 2, sigmoid, phi and its two sums 5;
// with slopes phi' 2 and four more sums 10.
inline std::uint64_t siluProxySums(std::size_t items, std::size_t pairs, bool slopes) {
  const std::uint64_t perPair = 2 + kSigmoidFloats + 5 + (slopes ? 12 : 0);
  return kStart + kWorkers * ((items + kWorkers - 1) / kWorkers) * (40 + pairs * perPair);
}

} // namespace cycles
} // namespace proxy_norm
