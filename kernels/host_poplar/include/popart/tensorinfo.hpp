#pragma once

#include "error.hpp"
#include "names.hpp"

namespace popart {

// In PopART's order.
enum class DataType {
  UINT8 = 0,
  INT8,
  UINT16,
  INT16,
  INT32,
  INT64,
  UINT32,
  UINT64,
  BOOL,
  FLOAT,
  FLOAT16,
  BFLOAT16,
  DOUBLE,
  COMPLEX64,
  COMPLEX128,
  STRING,
  UNDEFINED
};

class TensorInfo {
public:
  TensorInfo() = default;
  TensorInfo(DataType type, const Shape &shape) : type_(type), shape_(shape) {}
  void set(DataType type, const Shape &shape) { *this = TensorInfo(type, shape); }
  DataType dataType() const { return type_; }
  const Shape &shape() const { return shape_; }
  Rank rank() const { return static_cast<int>(shape_.size()); }
  int64_t dim(int i) const {
    if (i >= rank())
      throw error("Invalid input dimension {}, tensor of rank {}", i, rank());
    return shape_[i];
  }
  int64_t nelms() const {
    int64_t size = 1;
    for (int64_t extent : shape_)
      size *= extent;
    return size;
  }
  bool operator==(const TensorInfo &other) const { return type_ == other.type_ && shape_ == other.shape_; }
  bool operator!=(const TensorInfo &other) const { return !(*this == other); }

private:
  DataType type_ = DataType::UNDEFINED;
  Shape shape_;
};

} // namespace popart
