#pragma once

#include "names.hpp"

#include <tuple>

namespace popart {

struct NumInputs {
  int min, max;
  NumInputs() : min(0), max(0) {}
  NumInputs(int n) : min(n), max(n) {}
  NumInputs(int min, int max) : min(min), max(max) {}
};

struct OperatorIdentifier {
  OperatorIdentifier(const OpDomain &domain, const OpType &type, OpVersion version, NumInputs inputs = {},
                     int outputs = 0)
      : domain(domain), type(type), version(version), numInputs(inputs), numOutputs(outputs) {}

  OpDomain domain;
  OpType type;
  OpVersion version;
  NumInputs numInputs;
  int numOutputs;

  bool operator==(const OperatorIdentifier &other) const {
    return domain == other.domain && type == other.type && version == other.version;
  }
};

struct OperatorIdentifierLess {
  bool operator()(const OperatorIdentifier &a, const OperatorIdentifier &b) const {
    return std::tie(a.domain, a.type, a.version) < std::tie(b.domain, b.type, b.version);
  }
};

} // namespace popart
