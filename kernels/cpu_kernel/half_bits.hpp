// IEEE 754 half precision to and from float, rounding to nearest, ties to even.
#pragma once

#include <cstdint>
#include <cstring>
#if defined(__F16C__)
#include <immintrin.h>
#endif

inline float halfBitsToFloat(std::uint16_t half) {
#if defined(__F16C__)
  return _cvtsh_ss(half);
#else
  const std::uint32_t sign = std::uint32_t(half & 0x8000u) << 16;
  std::uint32_t exponent = (half >> 10) & 31u, fraction = half & 0x3ffu, bits;
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

inline std::uint16_t floatToHalfBits(float value) {
#if defined(__F16C__)
  return static_cast<std::uint16_t>(_cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT));
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
  return static_cast<std::uint16_t>(sign | out);
#endif
}
