#include <poplar/exceptions.hpp>
#include <poplar/Tensor.hpp>

#include <algorithm>
#include <functional>
#include <numeric>

namespace poplar {
namespace {

std::size_t product(ArrayRef<std::size_t> shape) {
  return std::accumulate(shape.begin(), shape.end(), std::size_t(1), std::multiplies<std::size_t>());
}

std::string text(ArrayRef<std::size_t> shape) {
  std::string out = "[";
  for (std::size_t size : shape)
    out += (out.size() > 1 ? "," : "") + std::to_string(size);
  return out + "]";
}

} // namespace

namespace host {
std::size_t slicesMade = 0;
} // namespace host

Tensor::Tensor(const Type &type, std::vector<std::size_t> shape, host::Elements elements)
    : type_(type), shape_(std::move(shape)), elements_(std::make_shared<host::Elements>(std::move(elements))) {
  if (product(shape_) != elements_->size())
    throw poplar_error("shape " + text(shape_) + " does not have " + std::to_string(elements_->size()) +
                       " elements");
}

bool Tensor::containsAliases() const {
  host::Elements sorted = *elements_;
  std::sort(sorted.begin(), sorted.end());
  return std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end();
}

bool Tensor::isContiguous() const {
  for (std::size_t i = 1; i < elements_->size(); ++i)
    if ((*elements_)[i].variable != (*elements_)[0].variable ||
        (*elements_)[i].offset != (*elements_)[0].offset + i)
      return false;
  return true;
}

Tensor Tensor::operator[](std::size_t i) const {
  Tensor row = slice(i, i + 1, 0);
  row.shape_.erase(row.shape_.begin());
  return row;
}

Tensor Tensor::slice(std::size_t begin, std::size_t end, unsigned dimension) const {
  if (dimension >= rank() || begin > end || end > shape_[dimension])
    throw poplar_error("slice [" + std::to_string(begin) + "," + std::to_string(end) + ") of dimension " +
                       std::to_string(dimension) + " lies outside the shape " + text(shape_));
  std::vector<std::size_t> shape = shape_;
  shape[dimension] = end - begin;
  const std::size_t inner = product({shape_.data() + dimension + 1, shape_.size() - dimension - 1});
  const std::size_t outer = product({shape_.data(), dimension});
  host::Elements out;
  out.reserve(outer * (end - begin) * inner);
  for (std::size_t o = 0; o < outer; ++o) {
    const auto from = elements_->begin() + (o * shape_[dimension] + begin) * inner;
    out.insert(out.end(), from, from + (end - begin) * inner);
  }
  return {type_, shape, std::move(out)};
}

std::vector<Tensor> Tensor::slices(ArrayRef<Interval> regions, unsigned dimension) const {
  host::slicesMade += regions.size();
  std::vector<Tensor> out;
  for (const Interval &region : regions)
    out.push_back(slice(region, dimension));
  return out;
}

Tensor Tensor::flatten() const {
  const std::size_t size = numElements();
  return reshape({size});
}

Tensor Tensor::reshape(ArrayRef<std::size_t> shape) const {
  if (product(shape) != numElements())
    throw poplar_error("cannot reshape " + text(shape_) + " to " + text(shape));
  Tensor out = *this;
  out.shape_.assign(shape.begin(), shape.end());
  return out;
}

Tensor Tensor::broadcast(unsigned n, unsigned dimension) const {
  return concat(std::vector<Tensor>(n, *this), dimension);
}

Tensor Tensor::dimShuffle(ArrayRef<unsigned> permutation) const {
  if (permutation.size() != rank())
    throw poplar_error("dimShuffle needs one entry for each of " + std::to_string(rank()) + " dimensions");
  std::vector<std::size_t> strides(rank(), 1), shape, stride;
  for (std::size_t i = rank(); i-- > 1;)
    strides[i - 1] = strides[i] * shape_[i];
  for (unsigned from : permutation) {
    shape.push_back(shape_.at(from));
    stride.push_back(strides[from]);
  }
  host::Elements out;
  out.reserve(numElements());
  std::vector<std::size_t> index(rank(), 0);
  for (std::size_t n = 0, at = 0; n < numElements(); ++n) {
    out.push_back((*elements_)[at]);
    for (std::size_t i = rank(); i-- > 0;) { // count up, the last dimension fastest
      at += stride[i];
      if (++index[i] < shape[i])
        break;
      at -= stride[i] * shape[i];
      index[i] = 0;
    }
  }
  return {type_, shape, std::move(out)};
}

Tensor concat(ArrayRef<Tensor> tensors, unsigned dimension) {
  if (tensors.empty())
    throw poplar_error("concat of no tensors");
  std::vector<std::size_t> shape = tensors[0].shape();
  shape.at(dimension) = 0;
  for (const Tensor &tensor : tensors) {
    std::vector<std::size_t> rest = tensor.shape();
    if (rest.size() != shape.size() || tensor.elementType() != tensors[0].elementType())
      throw poplar_error("concat of tensors of different rank or type");
    shape[dimension] += rest[dimension];
    rest[dimension] = shape[dimension];
    if (rest != shape)
      throw poplar_error("concat of " + text(tensor.shape()) + " to " + text(shape));
  }
  const std::size_t outer = product({shape.data(), dimension});
  host::Elements out;
  out.reserve(product(shape));
  for (std::size_t o = 0; o < outer; ++o)
    for (const Tensor &tensor : tensors) {
      const std::size_t size = tensor.numElements() / (outer ? outer : 1);
      const auto from = tensor.hostElements().begin() + o * size;
      out.insert(out.end(), from, from + size);
    }
  return {tensors[0].elementType(), shape, std::move(out)};
}

} // namespace poplar
