// Runs a program on the tensors of a graph, tile by tile, and judges it on the way: see the README.
#pragma once

#include "Graph.hpp"

#include <memory>
#include <string>
#include <vector>

namespace poplar {

class Engine {
public:
  // Throws poplar_error for everything that can be seen without running: tensors and vertices without a tile,
  // fields that are missing, of another type or left unconnected, vertices of one compute set that write one
  // element or one 32-bit word, or write what another reads, writes to read-only tensors.
  // With `judge` every vertex runs several times over, to see what each of its workers reads and writes.
  Engine(const Graph &graph, const program::Program &program, bool judge = true);
  ~Engine();

  void run();

  // Whole tensors, element by element in row-major order, in the tensor's own type.
  void writeTensor(const Tensor &tensor, const void *from);
  void readTensor(const Tensor &tensor, void *to) const;

  // Figures as a JSON object; `keep` are the tensors that live on after the program (its results).
  std::string hostReport(const std::vector<Tensor> &keep) const;

private:
  struct Contents;
  std::unique_ptr<Contents> contents_;
};

} // namespace poplar
