#pragma once

#include <stdexcept>
#include <string>

namespace popart {

class error : public std::runtime_error {
public:
  explicit error(const std::string &what) : std::runtime_error(what) {}
};

} // namespace popart
