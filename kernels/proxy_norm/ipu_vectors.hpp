// Elements as float, one at a time or, on an IPU, in pairs: the worker's floating-point unit works on two floats
// in one cycle, and a pair of halves is a word, which is stored without reading it first.
#pragma once

#include "proxy_norm_math.hpp"

#include <poplar/HalfFloat.hpp>

#ifdef __IPU__
#include <ipu_vector_math>
#endif

namespace proxy_norm {

template <typename V, typename T> inline V fetch(const T *from, unsigned i);
template <typename V, typename T> inline void put(T *to, unsigned i, V value);

template <> inline float fetch<float, float>(const float *from, unsigned i) { return from[i]; }
template <> inline float fetch<float, half>(const half *from, unsigned i) { return float(from[i]); }
template <> inline void put<float, float>(float *to, unsigned i, float value) { to[i] = value; }
template <> inline void put<float, half>(half *to, unsigned i, float value) { to[i] = half(value); }

#ifdef __IPU__

// The pair that begins at an even element i.
template <> inline float2 fetch<float2, float>(const float *from, unsigned i) {
  return *reinterpret_cast<const float2 *>(from + i);
}
template <> inline float2 fetch<float2, half>(const half *from, unsigned i) {
  const half2 pair = *reinterpret_cast<const half2 *>(from + i);
  return float2{float(pair[0]), float(pair[1])};
}
template <> inline void put<float2, float>(float *to, unsigned i, float2 value) {
  *reinterpret_cast<float2 *>(to + i) = value;
}
template <> inline void put<float2, half>(half *to, unsigned i, float2 value) {
  *reinterpret_cast<half2 *>(to + i) = half2{half(value[0]), half(value[1])};
}

// The instruction is a maximum of numbers (Graphcore's public LLVM selects it for llvm.maxnum): of a NaN and a
// number it takes the number. A NaN of x is then not seen in ReLU's output, but in the gradients, which multiply
// by x.
template <> inline float Lanes<float>::larger(float a, float b) { return ipu::fmax(a, b); }
template <> inline float2 Lanes<float2>::larger(float2 a, float2 b) { return ipu::fmax(a, b); }
template <> inline float2 Lanes<float2>::positive(float2 z) {
  return float2{z[0] > 0.0f ? 1.0f : 0.0f, z[1] > 0.0f ? 1.0f : 0.0f};
}
template <> inline float Lanes<float>::exponential(float x) { return ipu::exp(x); }
template <> inline float2 Lanes<float2>::exponential(float2 x) { return ipu::exp(x); }
template <> inline float sigmoid<float>(float z) { return ipu::sigmoid(z); }
template <> inline float2 sigmoid<float2>(float2 z) { return ipu::sigmoid(z); }

// Two structs of floats as one struct of pairs, member by member, and back.
template <typename Pairs, typename Singles> inline Pairs zip(const Singles &first, const Singles &second) {
  static_assert(sizeof(Pairs) == 2 * sizeof(Singles), "a struct of float2 like one of float");
  constexpr unsigned members = sizeof(Singles) / sizeof(float);
  float singles[2][members], pairs[2 * members];
  std::memcpy(singles[0], &first, sizeof first);
  std::memcpy(singles[1], &second, sizeof second);
  for (unsigned m = 0; m < members; ++m) {
    pairs[2 * m] = singles[0][m];
    pairs[2 * m + 1] = singles[1][m];
  }
  Pairs out;
  std::memcpy(static_cast<void *>(&out), pairs, sizeof out);
  return out;
}

template <typename Singles, typename Pairs> inline Singles unzip(const Pairs &pairs, unsigned lane) {
  constexpr unsigned members = sizeof(Singles) / sizeof(float);
  float from[2 * members], single[members];
  std::memcpy(from, &pairs, sizeof pairs);
  for (unsigned m = 0; m < members; ++m)
    single[m] = from[2 * m + lane];
  Singles out;
  std::memcpy(static_cast<void *>(&out), single, sizeof out);
  return out;
}

#endif

} // namespace proxy_norm
