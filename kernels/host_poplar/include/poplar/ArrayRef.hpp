// A view of consecutive values that somebody else owns.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <vector>

namespace poplar {

template <typename T> class ArrayRef {
public:
  ArrayRef() = default;
  ArrayRef(const T *data, std::size_t size) : data_(data), size_(size) {}
  ArrayRef(const std::vector<T> &values) : ArrayRef(values.data(), values.size()) {}
  ArrayRef(std::initializer_list<T> values) : size_(values.size()) {
    data_ = values.begin(); // the list outlives the call it is written in, which is all an argument needs
  }

  const T *begin() const { return data_; }
  const T *end() const { return data_ + size_; }
  const T *data() const { return data_; }
  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  const T &operator[](std::size_t i) const { return data_[i]; }

private:
  const T *data_ = nullptr;
  std::size_t size_ = 0;
};

} // namespace poplar
