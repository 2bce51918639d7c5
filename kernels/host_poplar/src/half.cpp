#include "../../cpu_kernel/half_bits.hpp"

#include <poplar/HalfFloat.hpp>

namespace poplar {
namespace host {

float halfToFloat(std::uint16_t bits) { return halfBitsToFloat(bits); }
std::uint16_t floatToHalf(float value) { return floatToHalfBits(value); }

} // namespace host
} // namespace poplar
