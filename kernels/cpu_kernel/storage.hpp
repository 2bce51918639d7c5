// How elements are kept in memory and in which type they are computed: half is computed in float.
#pragma once

#include <cstdint>
#include <cstring>
#if defined(__F16C__)
#include <immintrin.h>
#endif

struct Half {
  std::uint16_t bits;
};

inline float toFloat(Half h) {
#if defined(__F16C__)
  return _cvtsh_ss(h.bits);
#else
  const std::uint32_t sign = std::uint32_t(h.bits & 0x8000u) << 16;
  std::uint32_t exponent = (h.bits >> 10) & 31u, fraction = h.bits & 0x3ffu, bits;
  if (exponent == 31) {
    bits = sign | 0x7f800000u | (fraction << 13);
  } else if (exponent != 0) {
    bits = sign | ((exponent + 112) << 23) | (fraction << 13);
  } else { // subnormal: fraction * 2^-24, exact in float
    float value = float(fraction) * 5.9604644775390625e-8f;
    std::memcpy(&bits, &value, sizeof bits);
    bits |= sign;
  }
  float out;
  std::memcpy(&out, &bits, sizeof out);
  return out;
#endif
}

inline Half toHalf(float value) { // rounds to nearest, ties to even
#if defined(__F16C__)
  return {static_cast<std::uint16_t>(_cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT))};
#else
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const std::uint32_t sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
  std::uint32_t out;
  if (magnitude > 0x7f800000u) {
    out = 0x7e00u; // NaN
  } else if (magnitude >= 0x477ff000u) {
    out = 0x7c00u; // rounds to infinity
  } else if (magnitude >= 0x38800000u) {
    out = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  } else { // subnormal: adding 0.5 aligns the units of 2^-24 with the last bits of a float
    float shifted;
    std::memcpy(&shifted, &magnitude, sizeof shifted);
    shifted += 0.5f;
    std::memcpy(&out, &shifted, sizeof out);
    out -= 0x3f000000u;
  }
  return {static_cast<std::uint16_t>(sign | out)};
#endif
}

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
