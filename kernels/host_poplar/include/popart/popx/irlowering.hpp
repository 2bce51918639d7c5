#pragma once

#include "poptensors.hpp"

#include <poplar/Graph.hpp>

namespace popart {
namespace popx {

// What operators are lowered into: a graph and its tensors.
class IrLowering {
public:
  explicit IrLowering(poplar::Graph graph) : graph_(std::move(graph)) {}
  poplar::Graph &graph() { return graph_; }
  const PopTensors &tensors() const { return tensors_; }
  PopTensors &tensors() { return tensors_; }

private:
  poplar::Graph graph_;
  PopTensors tensors_;
};

} // namespace popx
} // namespace popart
