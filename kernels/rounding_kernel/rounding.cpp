// float32 rounded to the values that float16 has, in one pass over memory: to nearest, or stochastically with given
// bits. Every line of the loops is arithmetic that compilers turn into vectors.
#include "parallel.hpp"

#include <cstring>

namespace {

constexpr std::uint32_t SIGN = 0x80000000u, INFINITE = 0x7f800000u, DROPPED = 0x1fffu;
constexpr std::uint32_t SMALLEST_NORMAL = 0x38800000u; // 2^-14: below it float16 has a fixed spacing of 2^-24
constexpr std::uint32_t BECOMES_INFINITE = 0x477ff000u; // 65520
constexpr float HALF_MAX = 65504.f;

inline std::uint32_t bitsOf(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float floatOf(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Ties to even; 65520 and beyond become infinite.
inline float nearest(float x) {
  const std::uint32_t bits = bitsOf(x), sign = bits & SIGN, magnitude = bits & ~SIGN;
  const std::uint32_t normal = (magnitude + 0xfffu + ((magnitude >> 13) & 1u)) & ~DROPPED;
  // 0.5 has a spacing of 2^-24
  const std::uint32_t small = bitsOf((floatOf(magnitude < SMALLEST_NORMAL ? magnitude : 0u) + 0.5f) - 0.5f);
  std::uint32_t rounded = magnitude < SMALLEST_NORMAL ? small : normal;
  rounded = magnitude >= BECOMES_INFINITE ? INFINITE : rounded;
  rounded = magnitude > INFINITE ? magnitude | 0x400000u : rounded; // NaN
  return floatOf(rounded | sign);
}

// Uniform bits are added below the float16 mantissa, and what is below it then is cut off. Values with the fixed spacing
// are moved up by 2^-14, where that is the spacing of a float16 mantissa, and back. Finite values saturate.
inline float stochastic(float x, std::uint32_t noise) {
  const std::uint32_t bits = bitsOf(x), sign = bits & SIGN, magnitude = bits & ~SIGN;
  const float shift = floatOf((magnitude < SMALLEST_NORMAL ? SMALLEST_NORMAL : 0u) | sign);
  float rounded = floatOf((bitsOf(x + shift) + (noise & DROPPED)) & ~DROPPED) - shift;
  rounded = rounded > HALF_MAX ? HALF_MAX : rounded;
  rounded = rounded < -HALF_MAX ? -HALF_MAX : rounded;
  return magnitude >= INFINITE ? x : floatOf(bitsOf(rounded) | sign); // -0 where a negative value becomes zero
}

} // namespace

// to[i] = from[i] rounded; both may be the same. noise: int16 whose lowest 13 bits are uniform; null: to nearest.
extern "C" void round_to_half(const float *from, float *to, const std::int16_t *noise, std::int64_t count, int threads,
                              void *region) {
  const Threads available{threads, reinterpret_cast<ParallelRegion>(region)};
  parallelFor(count, available, 1, [=](std::int64_t begin, std::int64_t end) {
    if (noise == nullptr) {
#pragma omp simd
      for (std::int64_t i = begin; i < end; ++i)
        to[i] = nearest(from[i]);
    } else {
#pragma omp simd
      for (std::int64_t i = begin; i < end; ++i)
        to[i] = stochastic(from[i], std::uint32_t(std::int32_t(noise[i])));
    }
  });
}
