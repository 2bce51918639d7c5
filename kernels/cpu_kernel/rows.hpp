// Walks over rows that lie one after the other and share their group's statistics. Rows are short (49 elements in the
// last stage of a ResNet) and seldom a multiple of a vector: the vector in which one ends and the next begins takes the
// numbers of either in its lanes, so that every element is loaded and computed once, and aligned where the group is.
#pragma once

#include "vectors.hpp"

constexpr std::int64_t kRows = 64; // at a time

constexpr std::int64_t kBlock = 2048; // elements that are summed in their own type

// The numbers that a row's elements need, in all lanes; at a border those of two rows.
template <typename F, int numbers> struct RowNumbers {
  Vector<F> of[numbers];
};

// The same of up to kRows rows; each number has an array of its own, which compilers compute in vectors.
template <typename F, int numbers> struct RowTable {
  F of[numbers][kRows];
  RowNumbers<F, numbers> row(std::int64_t row) const {
    RowNumbers<F, numbers> out;
    for (int k = 0; k < numbers; ++k)
      out.of[k] = of[k][row] - Vector<F>{};
    return out;
  }
  // The last `count` elements of a row, then the first of the next.
  RowNumbers<F, numbers> border(std::int64_t before, std::int64_t count) const {
    const Border<F> border(count);
    RowNumbers<F, numbers> out;
    for (int k = 0; k < numbers; ++k)
      out.of[k] = border(of[k][before] - Vector<F>{}, of[k][before + 1] - Vector<F>{});
    return out;
  }
};

// out[i] = body(numbers of i's row, in[i]...); out is one of the inputs or overlaps none. Before each vector its index
// goes to touch(i), which may fetch what is needed afterwards.
template <typename T, int numbers, typename Touch, typename Body, typename... In>
inline void mapRows(const RowTable<Arithmetic<T>, numbers> &table, std::int64_t rows, std::int64_t spatial,
                    const Touch &touch, const Body &body, T *out, const In *...in) {
  constexpr std::int64_t lanes = kLanes<Arithmetic<T>>;
  std::int64_t i = 0;
  const auto part = [&](std::int64_t row, std::int64_t count) {
    storeFirst(out + i, body(table.row(row), loadFirst(in + i, count)...), count);
    i += count;
  };
  if (spatial < lanes) {
    for (std::int64_t row = 0; row < rows; ++row)
      part(row, spatial);
    return;
  }
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t end = (row + 1) * spatial;
    const auto numbersOfRow = table.row(row);
    for (; i + lanes <= end; i += lanes) {
      touch(i);
      store(out + i, body(numbersOfRow, load(in + i)...));
    }
    if (i < end && row + 1 < rows) {
      touch(i);
      store(out + i, body(table.border(row, end - i), load(in + i)...));
      i += lanes;
    } else if (i < end) {
      part(row, end - i);
    }
  }
}

// The same; where `ahead` is not zero, what lies so many bytes behind each input is brought into the caches meanwhile
// (memory is never idle while there is something to compute), and what lies there behind the output, if that is wished.
template <typename T, int numbers, typename Body, typename... In>
inline void mapRowsFetching(const RowTable<Arithmetic<T>, numbers> &table, std::int64_t rows, std::int64_t spatial,
                            std::int64_t ahead, bool output, const Body &body, T *out, const In *...in) {
  constexpr std::int64_t lanes = kLanes<Arithmetic<T>>, line = kLineBytes / sizeof(T);
  const auto fetchInputs = [=](std::int64_t i) {
    if (lanes == line || i % line == 0)
      (fetchAhead(in + i, ahead), ...);
  };
  const auto fetchAll = [=](std::int64_t i) {
    fetchInputs(i);
    if (lanes == line || i % line == 0)
      fetchToWrite(out + i, ahead);
  };
  if (ahead == 0)
    mapRows(table, rows, spatial, [](std::int64_t) {}, body, out, in...);
  else if (output)
    mapRows(table, rows, spatial, fetchAll, body, out, in...);
  else
    mapRows(table, rows, spatial, fetchInputs, body, out, in...);
}

// Sums of what terms(numbers of i's row, i) gives for the vector at i, for each row: finish(row, sums) gets them, in
// several parts where a row is long. part(numbers, i, count) is terms for `count` elements, zeros in the other lanes.
template <int sums, typename F, int numbers, typename Terms, typename Part, typename Finish>
inline void sumRows(const RowTable<F, numbers> &table, std::int64_t rows, std::int64_t spatial, const Terms &terms,
                    const Part &part, const Finish &finish) {
  using Sums = RowNumbers<F, sums>;
  constexpr std::int64_t lanes = kLanes<F>;
  const auto add = [](Sums &to, const Sums &what) {
    for (int k = 0; k < sums; ++k)
      to.of[k] += what.of[k];
  };
  std::int64_t i = 0;
  if (spatial < lanes) {
    for (std::int64_t row = 0; row < rows; ++row, i += spatial)
      finish(row, part(table.row(row), i, spatial));
    return;
  }
  Sums state{};
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t end = (row + 1) * spatial;
    const auto numbersOfRow = table.row(row);
    for (;;) {
      for (const std::int64_t stop = std::min(end, i + kBlock); i + lanes <= stop; i += lanes)
        add(state, terms(numbersOfRow, i));
      if (i + lanes > end)
        break;
      finish(row, state);
      state = Sums{};
    }
    Sums next{};
    if (i < end && row + 1 < rows) {
      const Border<F> border(end - i);
      const Sums both = terms(table.border(row, end - i), i);
      for (int k = 0; k < sums; ++k) {
        state.of[k] += border(both.of[k], Vector<F>{});
        next.of[k] = border(Vector<F>{}, both.of[k]);
      }
      i += lanes;
    } else if (i < end) {
      add(state, part(numbersOfRow, i, end - i));
      i = end;
    }
    finish(row, state);
    state = next;
  }
}
