// Ways for activations to lie on the tiles, to try the operators on.
#pragma once

#include <poplar/Graph.hpp>

#include <string>

namespace host {

// A new tensor of the given shape.
//   linear       equal stretches in row-major order, of an even number of elements
//   odd          the same, but of an odd number: runs begin and end anywhere
//   grouped      as after a convolution: channels in groups of up to 8 that vary fastest, tiles share the pixels;
//                grouped4, grouped16: of up to so many
//   mixed        half of the channels grouped4, half linear: two results side by side
//   reversed     linear, from the last tile down
//   single       all on the last tile
//   scattered    short runs dealt to the tiles in turn
poplar::Tensor addMapped(poplar::Graph &graph, const poplar::Type &type, const std::vector<std::size_t> &shape,
                         const std::string &mapping, const std::string &name);

// A new tensor of one graph with the type, memory order and tiles of another graph's tensor.
poplar::Tensor import(poplar::Graph &graph, const poplar::Graph &from, const poplar::Tensor &tensor,
                      const std::string &name);

} // namespace host
