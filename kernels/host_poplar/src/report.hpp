#pragma once

#include "wiring.hpp"

#include <string>
#include <vector>

namespace poplar {
namespace host {

// Bytes and estimated cycles of a program as a JSON object; see the README for what is counted.
std::string report(const GraphContents &graph, const std::vector<std::vector<WiredVertex>> &sets,
                   const std::vector<const Step *> &steps, const std::vector<Tensor> &keep);

} // namespace host
} // namespace poplar
