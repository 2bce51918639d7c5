#pragma once

#include "sessionoptions.hpp"

namespace popart {

class Ir {
public:
  const SessionOptions &getSessionOptions() const { return options_; }
  SessionOptions &getSessionOptions() { return options_; }

private:
  SessionOptions options_;
};

} // namespace popart
