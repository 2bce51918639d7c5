// Vectors of the processor's width through the vector extensions that g++ and clang share, and walks over rows
// that treat every element as part of a full vector: rows are short (49 elements in the last stage of a ResNet)
// and seldom a multiple of a vector, so the last elements are taken together with those before them.
// Element-wise results are then written twice, and in sums the lanes already counted are masked out.
#pragma once

#include "proxy_norm_math.hpp"
#include "storage.hpp"

#include <cmath>
#include <cstdint>
#include <cstring>

namespace proxy_norm {

template <> struct BitsOf<Vector<float>> {
  typedef std::uint32_t Type __attribute__((vector_size(kVectorBytes)));
};

template <> inline Vector<double> Lanes<Vector<double>>::exponential(Vector<double> x) {
  for (int lane = 0; lane < kLanes<double>; ++lane)
    x[lane] = std::exp(x[lane]);
  return x;
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

template <typename F> struct ZerosThenOnes {
  constexpr ZerosThenOnes() {
    for (int i = 0; i < 2 * kLanes<F>; ++i)
      lane[i] = i < kLanes<F> ? F(0) : F(1);
  }
  F lane[2 * kLanes<F>] = {};
};
template <typename F> constexpr ZerosThenOnes<F> kZerosThenOnes;

// One in the last `count` lanes, zero in those before.
template <typename F> inline Vector<F> lastLanes(std::int64_t count) {
  return load(kZerosThenOnes<F>.lane + count);
}

// A vector's worth of elements of which only `count` exist; the others are zero.
template <typename T> struct Padded {
  Padded(const T *from, std::int64_t count) : elements{} { std::memcpy(elements, from, count * sizeof(T)); }
  T elements[kLanes<Arithmetic<T>>];
};

// out[i] = body(in[i]...) for i in [0, n); out overlaps no input.
template <typename T, typename Body, typename... In>
inline void elementWise(std::int64_t n, const Body &body, T *out, const In *...in) {
  constexpr std::int64_t lanes = kLanes<Arithmetic<T>>;
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    store(out + i, body(load(in + i)...));
  if (i == n)
    return;
  if (n >= lanes) {
    store(out + n - lanes, body(load(in + n - lanes)...));
    return;
  }
  T result[lanes];
  store(result, body(load(Padded<In>(in, n).elements)...));
  std::memcpy(out, result, n * sizeof(T));
}

// Folds vectors that cover [0, n) into a state: state = body(state, x, d, mask). An element counts where its
// mask is one. States go by value, which is what keeps them in registers.
template <typename State, typename T, typename Body>
inline State masked(State state, std::int64_t n, const Body &body, const T *x, const T *d) {
  using F = Arithmetic<T>;
  constexpr std::int64_t lanes = kLanes<F>;
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    state = body(state, load(x + i), load(d + i), Vector<F>{} + F(1));
  if (i == n)
    return state;
  if (n >= lanes)
    return body(state, load(x + n - lanes), load(d + n - lanes), lastLanes<F>(n - i));
  // the first n lanes count: all but the last lanes - n
  return body(state, load(Padded<T>(x, n).elements), load(Padded<T>(d, n).elements),
              F(1) - lastLanes<F>(lanes - n));
}

// As masked, and writes what body returns beside the state for each element to `out`, which overlaps no input.
template <typename State, typename T, typename Body>
inline State maskedWriting(State state, std::int64_t n, const Body &body, T *out, const T *x, const T *d) {
  constexpr std::int64_t lanes = kLanes<T>;
  const Vector<T> all = Vector<T>{} + T(1);
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    store(out + i, body(state, load(x + i), load(d + i), all));
  if (i == n)
    return state;
  if (n >= lanes) {
    store(out + n - lanes, body(state, load(x + n - lanes), load(d + n - lanes), lastLanes<T>(n - i)));
    return state;
  }
  T result[lanes];
  const Vector<T> mask = T(1) - lastLanes<T>(lanes - n);
  store(result, body(state, load(Padded<T>(x, n).elements), load(Padded<T>(d, n).elements), mask));
  std::memcpy(out, result, n * sizeof(T));
  return state;
}

// values[i] = body(values[i], x[i]) for i in [0, n), each exactly once.
template <typename T, typename Body> inline void update(std::int64_t n, const Body &body, T *values, const T *x) {
  constexpr std::int64_t lanes = kLanes<T>;
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    store(values + i, body(load(values + i), load(x + i)));
  if (i == n)
    return;
  T result[lanes];
  store(result, body(load(Padded<T>(values + i, n - i).elements), load(Padded<T>(x + i, n - i).elements)));
  std::memcpy(values + i, result, (n - i) * sizeof(T));
}

// The sum of term(x[i]) over [0, n), in four chains of additions that do not wait for each other.
template <typename T, typename Term> inline Arithmetic<T> sumOf(std::int64_t n, const Term &term, const T *x) {
  using F = Arithmetic<T>;
  constexpr std::int64_t lanes = kLanes<F>;
  Vector<F> a{}, b{}, c{}, d{};
  std::int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    a += term(load(x + i));
    b += term(load(x + i + lanes));
    c += term(load(x + i + 2 * lanes));
    d += term(load(x + i + 3 * lanes));
  }
  const auto last = [&](Vector<F> sum, Vector<F> v, Vector<F>, Vector<F> mask) { return sum + term(v) * mask; };
  a = masked(a, n - i, last, x + i, x + i);
  return laneTotal<F>((a + b) + (c + d));
}
