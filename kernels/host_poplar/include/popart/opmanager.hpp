#pragma once

#include "op.hpp"

#include <functional>

namespace popart {

class OpDefinition {
public:
  using DataTypes = std::vector<DataType>;
  struct Input {
    Input(const std::string &name, const DataTypes &types, bool constant = false)
        : name(name), supportedTensors(types), constant(constant) {}
    std::string name;
    DataTypes supportedTensors;
    bool constant;
  };
  struct Output {
    Output(const std::string &name, const DataTypes &types) : name(name), supportedTensors(types) {}
    std::string name;
    DataTypes supportedTensors;
  };
  struct Attribute {
    Attribute(const std::string &regex) : supportedValuesRegex(regex) {}
    std::string supportedValuesRegex;
  };
  using Inputs = std::vector<Input>;
  using Outputs = std::vector<Output>;
  using Attributes = std::map<std::string, Attribute>;

  OpDefinition() = default;
  OpDefinition(const Inputs &inputs, const Outputs &outputs, const Attributes &attributes)
      : inputs(inputs), outputs(outputs), attributes(attributes) {}
  Inputs inputs;
  Outputs outputs;
  Attributes attributes;
};

using OpDefinitions = std::map<OperatorIdentifier, OpDefinition, OperatorIdentifierLess>;

struct OpCreatorInfo {
  const OperatorIdentifier &opid;
  const Op::Settings &settings;
  const Attributes &attributes;
};

class OpManager {
public:
  using OpFactoryFunc = std::function<std::unique_ptr<Op>(const OpCreatorInfo &)>;
  struct OpInfo {
    OperatorIdentifier id;
    OpDefinition details;
    OpFactoryFunc factory;
  };
  static void registerOp(const OpInfo &info); // of two with one identifier the first one stays
  static const OpInfo *hostFind(const std::string &domain, const std::string &type, int version);
};

template <class OP> class OpCreator {
public:
  OpCreator(const OpDefinitions &definitions, OpManager::OpFactoryFunc factory, bool = true) {
    for (const auto &definition : definitions)
      OpManager::registerOp({definition.first, definition.second, factory});
  }
};

} // namespace popart
