#pragma once

#include <stdexcept>
#include <string>

namespace poplar {

struct poplar_error : std::runtime_error {
  explicit poplar_error(const std::string &what) : std::runtime_error(what) {}
};

} // namespace poplar
