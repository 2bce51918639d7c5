#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <vector>

namespace popart {

using InIndex = int;
using OutIndex = int;
using TensorId = std::string;
using OpDomain = std::string;
using OpType = std::string;
using OpVersion = unsigned;
using Rank = int;
using Shape = std::vector<int64_t>;

namespace view {
class Region;
using Regions = std::vector<Region>;
using RegMap = std::function<Regions(const Region &)>;
} // namespace view

} // namespace popart
