#pragma once

#include "names.hpp"

namespace popart {

enum class DataType { FLOAT16, FLOAT, INT32 };

class TensorInfo {
public:
  TensorInfo() = default;
  TensorInfo(DataType type, const Shape &shape) : type_(type), shape_(shape) {}
  void set(DataType type, const Shape &shape) { *this = TensorInfo(type, shape); }
  DataType dataType() const { return type_; }
  const Shape &shape() const { return shape_; }
  int rank() const { return int(shape_.size()); }
  int64_t dim(int i) const { return shape_.at(i); }
  int64_t nelms() const {
    int64_t size = 1;
    for (int64_t extent : shape_)
      size *= extent;
    return size;
  }
  bool operator==(const TensorInfo &other) const { return type_ == other.type_ && shape_ == other.shape_; }

private:
  DataType type_ = DataType::FLOAT;
  Shape shape_;
};

} // namespace popart
