// How elements are kept in memory and in which type they are computed: half is computed in float.
#pragma once

#include "half_bits.hpp"

#include <cstdint>
#include <cstring>
#if defined(__AVX__)
#include <immintrin.h>
#endif

struct Half {
  std::uint16_t bits;
};

inline float toFloat(Half half) { return halfBitsToFloat(half.bits); }
inline Half toHalf(float value) { return {floatToHalfBits(value)}; }
inline float valueOf(Half half) { return toFloat(half); }
inline float valueOf(float value) { return value; }
inline double valueOf(double value) { return value; }

// The type that elements of T are computed in, and vectors of it.
template <typename T> struct ArithmeticOf {
  using Type = T;
};
template <> struct ArithmeticOf<Half> {
  using Type = float;
};
template <typename T> using Arithmetic = typename ArithmeticOf<T>::Type;

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <typename F> struct VectorOf;
template <> struct VectorOf<float> {
  typedef float Type __attribute__((vector_size(kVectorBytes)));
};
template <> struct VectorOf<double> {
  typedef double Type __attribute__((vector_size(kVectorBytes)));
};
template <typename F> using Vector = typename VectorOf<F>::Type;
template <typename F> constexpr std::int64_t kLanes = kVectorBytes / sizeof(F);

// One vector from or to memory of any alignment.
template <typename T> inline Vector<T> load(const T *from) {
  Vector<T> out;
  std::memcpy(&out, from, sizeof out);
  return out;
}

template <typename T> inline void store(T *to, Vector<T> value) { std::memcpy(to, &value, sizeof value); }

inline Vector<float> load(const Half *from) {
#if defined(__AVX512F__)
  return (Vector<float>)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(from)));
#elif defined(__F16C__) && defined(__AVX__)
  return (Vector<float>)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(from)));
#else
  Vector<float> out;
  for (int lane = 0; lane < kLanes<float>; ++lane)
    out[lane] = toFloat(from[lane]);
  return out;
#endif
}

inline void store(Half *to, Vector<float> value) {
#if defined(__AVX512F__)
  _mm256_storeu_si256(reinterpret_cast<__m256i *>(to), _mm512_cvtps_ph((__m512)value, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__) && defined(__AVX__)
  _mm_storeu_si128(reinterpret_cast<__m128i *>(to), _mm256_cvtps_ph((__m256)value, _MM_FROUND_TO_NEAREST_INT));
#else
  for (int lane = 0; lane < kLanes<float>; ++lane)
    to[lane] = toHalf(value[lane]);
#endif
}
