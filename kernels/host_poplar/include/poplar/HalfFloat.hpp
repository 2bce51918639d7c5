// half as on Poplar's CPU targets: a class that stores 16 bits and computes in float.
#pragma once

#include <cstdint>
#include <limits>

namespace poplar {
namespace host {
float halfToFloat(std::uint16_t bits);
std::uint16_t floatToHalf(float value); // to nearest, ties to even
} // namespace host
} // namespace poplar

class half {
public:
  half() = default;
  half(float value) : bits_(poplar::host::floatToHalf(value)) {}
  operator float() const { return poplar::host::halfToFloat(bits_); }

private:
  std::uint16_t bits_;
};
