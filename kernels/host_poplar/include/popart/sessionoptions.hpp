#pragma once

namespace popart {

// Those that an operator here asks for.
struct SessionOptions {
  bool groupNormStridedChannelGrouping = false;
};

} // namespace popart
