// A view: a shape, and for each of its elements the element of a variable it stands for.
#pragma once

#include "ArrayRef.hpp"
#include "Interval.hpp"
#include "Type.hpp"

#include <cstdint>
#include <memory>
#include <vector>

namespace poplar {

class Graph;

namespace host {
struct Element {
  std::uint32_t variable, offset;
  bool operator==(const Element &other) const { return variable == other.variable && offset == other.offset; }
  bool operator<(const Element &other) const {
    return variable != other.variable ? variable < other.variable : offset < other.offset;
  }
};
using Elements = std::vector<Element>;
extern std::size_t slicesMade; // by slices(), in all: what a graph costs to build
} // namespace host

class Tensor {
public:
  Tensor() = default;
  Tensor(const Type &type, std::vector<std::size_t> shape, host::Elements elements);

  bool valid() const { return elements_ != nullptr; }
  Type elementType() const { return type_; }
  std::vector<std::size_t> shape() const { return shape_; }
  std::size_t dim(unsigned i) const { return shape_.at(i); }
  unsigned rank() const { return unsigned(shape_.size()); }
  std::size_t numElements() const { return elements_->size(); }
  bool containsAliases() const;
  bool isContiguous() const;
  bool isParallelWriteable() const { return !containsAliases(); }

  Tensor operator[](std::size_t i) const;
  Tensor slice(std::size_t begin, std::size_t end, unsigned dimension = 0) const;
  Tensor slice(const Interval &region, unsigned dimension = 0) const {
    return slice(region.begin(), region.end(), dimension);
  }
  std::vector<Tensor> slices(ArrayRef<Interval> regions, unsigned dimension = 0) const;
  Tensor flatten() const;
  Tensor reshape(ArrayRef<std::size_t> shape) const;
  Tensor broadcast(unsigned n, unsigned dimension) const; // n copies, one after another
  Tensor dimShuffle(ArrayRef<unsigned> permutation) const;

  const host::Elements &hostElements() const { return *elements_; }

private:
  Type type_ = FLOAT;
  std::vector<std::size_t> shape_;
  std::shared_ptr<const host::Elements> elements_;
};

Tensor concat(ArrayRef<Tensor> tensors, unsigned dimension = 0);

} // namespace poplar
