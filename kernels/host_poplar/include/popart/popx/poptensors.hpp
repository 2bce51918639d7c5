#pragma once

#include "../error.hpp"
#include "../names.hpp"

#include <poplar/Tensor.hpp>

#include <map>

namespace popart {
namespace popx {

// A lowering's tensors by name. (PopART compares those that it inserts itself with the IR.)
class PopTensors {
public:
  void insertUnsafe(TensorId id, const poplar::Tensor &tensor) {
    if (!tensors_.emplace(id, tensor).second)
      throw error("poplar::Tensor {} already in map", id);
  }
  const poplar::Tensor &get(TensorId id) const {
    const auto found = tensors_.find(id);
    if (found == tensors_.end())
      throw error("no pop tensor {}", id);
    return found->second;
  }
  bool contains(TensorId id) const { return tensors_.count(id) != 0; }

private:
  std::map<TensorId, poplar::Tensor> tensors_;
};

} // namespace popx
} // namespace popart
