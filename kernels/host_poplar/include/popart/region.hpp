#pragma once

#include "names.hpp"

namespace popart {
namespace view {

class Region {
public:
  Region(const Shape &lower, const Shape &upper) : lower_(lower), upper_(upper) {}
  bool operator==(const Region &other) const { return lower_ == other.lower_ && upper_ == other.upper_; }

private:
  Shape lower_, upper_;
};

} // namespace view
} // namespace popart
