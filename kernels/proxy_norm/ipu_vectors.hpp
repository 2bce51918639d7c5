// Elements in the vectors that a worker loads in one bundle, 64 bits: four halves or two floats; or one by one, as
// float, at the ends of a stretch and on the host.
//
// Halves stay halves in what is done to each element, as in PopLibs' norms and activations: its instructions work on
// four at once, where floats go in pairs. Sums are float. A bundle holds one load or store beside one arithmetic
// operation, and never two accesses, so that no two of them can meet in one memory element.
#pragma once

#include "proxy_norm_math.hpp"

#include <poplar/HalfFloat.hpp>

#ifdef __IPU__
#include <ipu_vector_math>
#endif

namespace proxy_norm {

// V at element i, or `value` in all lanes.
template <typename V, typename T> inline V fetch(const T *from, unsigned i);
template <typename V, typename T> inline void put(T *to, unsigned i, V value);
template <typename V> inline V splat(float value);

template <> inline float fetch<float, float>(const float *from, unsigned i) { return from[i]; }
template <> inline float fetch<float, half>(const half *from, unsigned i) { return float(from[i]); }
template <> inline void put<float, float>(float *to, unsigned i, float value) { to[i] = value; }
template <> inline void put<float, half>(half *to, unsigned i, float value) { to[i] = half(value); }
template <> inline float splat<float>(float value) { return value; }

// `value` where z > threshold, else zero. A NaN is not larger.
inline float where(float z, float threshold, float value) { return z > threshold ? value : 0.0f; }

// SiLU of z, by half of it: with w = z / 2 and t = tanh(w), phi(z) = w (1 + t) and 2 phi'(z) = 1 + t + phi(z) (1 - t).
// Of four halves an IPU takes the hyperbolic tangent in half the time of a sigmoid, and the half of z costs nothing:
// it is in the coefficients.
template <typename V> inline V tangent(V w);
template <> inline float tangent<float>(float w) {
#ifdef __IPU__
  return ipu::tanh(w);
#else
  return std::tanh(w);
#endif
}
template <typename V> inline V siluOfHalf(V w) { return w + w * tangent(w); }
template <typename V> inline void siluOfHalf(V w, V &phi, V &twiceSlope) {
  const V t = tangent(w), one = splat<V>(1.0f), plus = one + t;
  phi = w * plus;
  twiceSlope = plus + phi * (one - t);
}

// A sum in float, lane by lane.
template <typename V> struct Sum;

template <> struct Sum<float> {
  float total = 0;
  void add(float v) { total += v; }
  void addSquare(float v) { total += v * v; }
  float lane(unsigned) const { return total; }
  float all() const { return total; }
};

#ifdef __IPU__

template <typename T> struct VectorOf;
template <> struct VectorOf<float> {
  using Type = float2;
};
template <> struct VectorOf<half> {
  using Type = half4;
};
template <typename V> constexpr unsigned kLanesOf = 1;
template <> constexpr unsigned kLanesOf<float2> = 2;
template <> constexpr unsigned kLanesOf<half4> = 4;

// At an element whose number is a multiple of the vector's lanes.
template <> inline float2 fetch<float2, float>(const float *from, unsigned i) {
  return *reinterpret_cast<const float2 *>(from + i);
}
template <> inline half4 fetch<half4, half>(const half *from, unsigned i) {
  return *reinterpret_cast<const half4 *>(from + i);
}
template <> inline void put<float2, float>(float *to, unsigned i, float2 value) {
  *reinterpret_cast<float2 *>(to + i) = value;
}
template <> inline void put<half4, half>(half *to, unsigned i, half4 value) {
  *reinterpret_cast<half4 *>(to + i) = value;
}
template <> inline float2 splat<float2>(float value) { return float2{value, value}; }
template <> inline half4 splat<half4>(float value) {
  const half v = half(value);
  return half4{v, v, v, v};
}

inline float2 lowOf(half4 v) { return float2{float(v[0]), float(v[1])}; }
inline float2 highOf(half4 v) { return float2{float(v[2]), float(v[3])}; }

// A comparison of vectors gives all ones or all zeros in each lane (PopLibs' relational operators use it so).
template <typename V> inline V where(V z, V threshold, V value) {
  const auto mask = z > threshold;
  auto bits = mask;
  static_assert(sizeof bits == sizeof value, "a mask as wide as its vector");
  std::memcpy(static_cast<void *>(&bits), &value, sizeof bits);
  bits = bits & mask;
  std::memcpy(static_cast<void *>(&value), &bits, sizeof bits);
  return value;
}

template <> struct Sum<float2> {
  float2 total = {0, 0};
  void add(float2 v) { total += v; }
  void addSquare(float2 v) { total += v * v; }
  float lane(unsigned i) const { return total[i]; }
  float all() const { return total[0] + total[1]; }
};

template <> struct Sum<half4> {
  float2 low = {0, 0}, high = {0, 0};
  void add(half4 v) {
    low += lowOf(v);
    high += highOf(v);
  }
  void addSquare(half4 v) {
    const float2 l = lowOf(v), h = highOf(v);
    low += l * l;
    high += h * h;
  }
  float lane(unsigned i) const { return i < 2 ? low[i] : high[i - 2]; }
  float all() const {
    const float2 both = low + high;
    return both[0] + both[1];
  }
};

// The instruction is a maximum of numbers (Graphcore's public LLVM selects it for llvm.maxnum): of a NaN and a
// number it takes the number. What that would hide, see ReluForward.
template <> inline float Lanes<float>::larger(float a, float b) { return ipu::fmax(a, b); }
template <> inline float2 Lanes<float2>::larger(float2 a, float2 b) { return ipu::fmax(a, b); }
template <> inline half4 Lanes<half4>::larger(half4 a, half4 b) { return ipu::fmax(a, b); }
template <> inline float Lanes<float>::exponential(float x) { return ipu::exp(x); }
template <> inline float2 Lanes<float2>::exponential(float2 x) { return ipu::exp(x); }
template <> inline float sigmoid<float>(float z) { return ipu::sigmoid(z); }
template <> inline float2 sigmoid<float2>(float2 z) { return ipu::sigmoid(z); }
template <> inline float2 tangent<float2>(float2 w) { return ipu::tanh(w); }
template <> inline half4 tangent<half4>(half4 w) {
  const half2 low = ipu::tanh(half2{w[0], w[1]}), high = ipu::tanh(half2{w[2], w[3]});
  return half4{low[0], low[1], high[0], high[1]};
}

// Pairs of the proxy's points: two structs of floats as one struct of pairs, member by member, and back.
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
