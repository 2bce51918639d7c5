#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

namespace popart {

using InIndex = int;
using OutIndex = int;
using TensorId = std::string;
using Shape = std::vector<int64_t>;

} // namespace popart
