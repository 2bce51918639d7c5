// Vectors of the processor's width through the vector extensions that g++ and clang share.
#pragma once

#include "proxy_norm_math.hpp"
#include "storage.hpp"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace proxy_norm {

template <> struct BitsOf<Vector<float>> {
  typedef std::uint32_t Type __attribute__((vector_size(kVectorBytes)));
};

template <> inline Vector<double> Lanes<Vector<double>>::exponentialWithin(Vector<double> x) {
  for (int lane = 0; lane < kLanes<double>; ++lane)
    x[lane] = std::exp(x[lane]);
  return x;
}

// By a power of two of base 2: the argument needs one multiplication and no second part of ln 2. Its rounding is a
// relative error of the exponential of 6e-8 |z|, where the sigmoid is the smaller the larger that is.
template <> inline Vector<float> sigmoid<Vector<float>>(Vector<float> z) {
  using V = Vector<float>;
  const V within = Lanes<V>::smaller(Lanes<V>::larger(z, V{} - 87.0f), V{} + 87.0f);
  const float shift = 12582912.0f, turn = -1.44269504f; // see exponentialWithin
  const V shifted = within * turn + shift;
  const V k = shifted - shift;
  const V r = within * turn - k;
  V p = r * 0.00132647272f + 0.00967151264f;
  p = p * r + 0.0555073374f;
  p = p * r + 0.240222421f;
  p = p * r + 0.693146978f;
  p = p * r + 1.0f;
  BitsOf<V>::Type bits, exponent;
  std::memcpy(&exponent, &shifted, sizeof exponent);
  std::memcpy(&bits, &p, sizeof bits);
  bits += exponent << 23;
  std::memcpy(&p, &bits, sizeof p);
  return 1.0f / (1.0f + p);
}

} // namespace proxy_norm

// The sum of a vector's lanes, by halves: as accurate as it is short.
template <typename F, int Bytes> inline F laneTotal(const void *lanes) {
  typedef F Half __attribute__((vector_size(Bytes / 2)));
  Half low, high;
  std::memcpy(&low, lanes, sizeof low);
  std::memcpy(&high, static_cast<const char *>(lanes) + sizeof low, sizeof high);
  low += high;
  if constexpr (Bytes / 2 == sizeof(F))
    return low[0];
  else
    return laneTotal<F, Bytes / 2>(&low);
}
template <typename F> inline F laneTotal(Vector<F> v) { return laneTotal<F, kVectorBytes>(&v); }

// The sums of four vectors' lanes each. One after the other they would take as long as a short row.
template <typename F> inline void laneTotals(const Vector<F> (&v)[4], double (&out)[4]) {
#if defined(__AVX__)
  if constexpr (sizeof(F) == sizeof(float)) {
    __m256 of[4];
    for (int i = 0; i < 4; ++i) {
#if defined(__AVX512F__)
      const __m512 all = (__m512)v[i];
      of[i] = _mm512_castps512_ps256(all) + _mm512_castps512_ps256(_mm512_shuffle_f32x4(all, all, 0x4e));
#else
      of[i] = (__m256)v[i];
#endif
    }
    const __m256 pairs = _mm256_hadd_ps(_mm256_hadd_ps(of[0], of[1]), _mm256_hadd_ps(of[2], of[3]));
    const __m128 totals = _mm256_castps256_ps128(pairs) + _mm256_extractf128_ps(pairs, 1);
    _mm256_storeu_pd(out, _mm256_cvtps_pd(totals));
    return;
  }
#endif
  for (int i = 0; i < 4; ++i)
    out[i] = laneTotal<F>(v[i]);
}

template <typename F> struct ZerosThenOnes {
  constexpr ZerosThenOnes() {
    for (int i = 0; i < 2 * kLanes<F>; ++i)
      lane[i] = i < kLanes<F> ? F(0) : F(1);
  }
  F lane[2 * kLanes<F>] = {};
};
template <typename F> constexpr ZerosThenOnes<F> kZerosThenOnes;

// The first `count` lanes of one vector, 0 to all of them, and the others of another.
template <typename F> class Border {
public:
  explicit Border(std::int64_t count) : second_(load(kZerosThenOnes<F>.lane + kLanes<F> - count)) {}
  Vector<F> operator()(Vector<F> first, Vector<F> second) const { return second_ > Vector<F>{} ? second : first; }

private:
  Vector<F> second_;
};

// A vector's worth of elements of which only the first `count` exist; the others are zero.
template <typename T> inline Vector<Arithmetic<T>> loadFirst(const T *from, std::int64_t count) {
#if defined(__AVX512F__)
  if constexpr (std::is_same<T, float>::value)
    return (Vector<float>)_mm512_maskz_loadu_ps(__mmask16((1u << count) - 1), from);
#endif
  T elements[kLanes<Arithmetic<T>>] = {};
  std::memcpy(elements, from, count * sizeof(T));
  return load(elements);
}

template <typename T> inline void storeFirst(T *to, Vector<Arithmetic<T>> value, std::int64_t count) {
#if defined(__AVX512F__)
  if constexpr (std::is_same<T, float>::value)
    return _mm512_mask_storeu_ps(to, __mmask16((1u << count) - 1), (__m512)value);
#endif
  T elements[kLanes<Arithmetic<T>>];
  store(elements, value);
  std::memcpy(to, elements, count * sizeof(T));
}

// Asks for the cache line so many bytes behind an address, which may be no memory at all: it will be read soon.
template <typename T> inline void fetchAhead(const T *from, std::int64_t ahead) {
  __builtin_prefetch(reinterpret_cast<const void *>(reinterpret_cast<std::uintptr_t>(from) + ahead), 0, 2);
}

// The same for a line that will be written: to store into one that is in no cache waits until it has been read, and a
// processor has few places for stores that wait.
template <typename T> inline void fetchToWrite(T *to, std::int64_t ahead) {
  __builtin_prefetch(reinterpret_cast<const void *>(reinterpret_cast<std::uintptr_t>(to) + ahead), 1, 3);
}
constexpr std::int64_t kLineBytes = 64;

// Sums of x[i] - shift and of its square over [0, n), in chains of additions that do not wait for each other.
template <typename F> struct ShiftedSums {
  F sum{}, square{};
};
template <typename T> inline ShiftedSums<Arithmetic<T>> shiftedSums(std::int64_t n, Arithmetic<T> shift, const T *x) {
  using F = Arithmetic<T>;
  constexpr std::int64_t lanes = kLanes<F>;
  constexpr int chains = 4;
  Vector<F> sum[chains] = {}, square[chains] = {};
  const auto add = [&](int chain, Vector<F> u) {
    sum[chain] += u;
    square[chain] += u * u;
  };
  std::int64_t i = 0;
  for (; i + chains * lanes <= n; i += chains * lanes)
    for (int chain = 0; chain < chains; ++chain)
      add(chain, load(x + i + chain * lanes) - shift);
  for (; i + lanes <= n; i += lanes)
    add(0, load(x + i) - shift);
  if (i < n)
    add(1, Border<F>(n - i)(loadFirst(x + i, n - i) - shift, Vector<F>{}));
  return {laneTotal<F>((sum[0] + sum[1]) + (sum[2] + sum[3])),
          laneTotal<F>((square[0] + square[1]) + (square[2] + square[3]))};
}

// The mean of some elements, all over [0, n): near the mean of all, even if one of them is an outlier.
template <typename T> inline Arithmetic<T> sampledMean(std::int64_t n, const T *x) {
  using F = Arithmetic<T>;
  constexpr std::int64_t lanes = kLanes<F>;
  if (n < 4 * lanes) {
    F sum = 0;
    for (std::int64_t i = 0; i < n; ++i)
      sum += valueOf(x[i]);
    return sum / F(n);
  }
  const std::int64_t step = (n - lanes) / 3;
  return laneTotal<F>((load(x) + load(x + step)) + (load(x + 2 * step) + load(x + n - lanes))) / F(4 * lanes);
}
