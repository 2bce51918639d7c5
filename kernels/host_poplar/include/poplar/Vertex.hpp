// What codelets are written with: vertices and their fields.
#pragma once

#include <cstddef>
#include <cstdint>

namespace poplar {

enum class VectorLayout {
  NOT_A_VECTOR,
  SPAN,
  SHORT_SPAN,
  ONE_PTR,
  SCALED_PTR32,
  SCALED_PTR64,
  SCALED_PTR128,
  COMPACT_PTR
};

class Vertex {};

// compute(worker) runs on every worker thread of the tile, each with its number.
class MultiVertex {
public:
  static constexpr unsigned numWorkers() { return 6; }
};

template <typename T, VectorLayout L = VectorLayout::SPAN, unsigned Align = 1, bool Interleaved = false>
class Vector;

// A field connected to a tensor. Input must not be written, Output must not be read; InOut may be both.
template <typename T> class Input;
template <typename T> class Output;
template <typename T> class InOut;

namespace host {

// One vector field: a pointer into a tile's memory, and for spans its length.
template <typename Pointed, VectorLayout L> class VectorField {
public:
  Pointed &operator[](std::size_t i) const { return data_[i]; }
  template <VectorLayout Layout = L> std::size_t size() const {
    static_assert(Layout == VectorLayout::SPAN || Layout == VectorLayout::SHORT_SPAN, "this layout knows no size");
    return size_;
  }
  void bind(void *data, std::size_t size) {
    data_ = static_cast<Pointed *>(data);
    size_ = size;
  }

protected:
  Pointed *data_ = nullptr;
  std::size_t size_ = 0;
};

} // namespace host

template <typename T, VectorLayout L, unsigned A, bool I>
class Input<Vector<T, L, A, I>> : public host::VectorField<const T, L> {
public:
  void bind(const void *data, std::size_t size) {
    this->data_ = static_cast<const T *>(data);
    this->size_ = size;
  }
};
template <typename T, VectorLayout L, unsigned A, bool I>
class Output<Vector<T, L, A, I>> : public host::VectorField<T, L> {};
template <typename T, VectorLayout L, unsigned A, bool I>
class InOut<Vector<T, L, A, I>> : public host::VectorField<T, L> {};

} // namespace poplar
