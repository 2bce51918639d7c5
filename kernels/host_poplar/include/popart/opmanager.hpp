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

class OpCreatorInfo {
public:
  const OperatorIdentifier &opid;
  const Op::Settings &settings;
  const Attributes &attributes;

  OpCreatorInfo(const OperatorIdentifier &opid, const Op::Settings &settings, const Attributes &attributes,
                const std::vector<TensorId> &inputIds, const std::vector<TensorId> &outputIds)
      : opid(opid), settings(settings), attributes(attributes), inputIds_(inputIds), outputIds_(outputIds) {}
  bool hasInputIds() const { return !inputIds_.empty(); }
  bool hasOutputIds() const { return !outputIds_.empty(); }

private:
  const std::vector<TensorId> &inputIds_, &outputIds_;
};

class OpManager {
public:
  using OpFactoryFunc = std::function<std::unique_ptr<Op>(const OpCreatorInfo &)>;
  // A factory that also connects its operator. It takes part in choosing a constructor of OpCreator, no more.
  using ComplexOpFactoryFunc = std::function<Op *(const OpCreatorInfo &, Graph &)>;
  class OpInfo {
  public:
    OpInfo(const OperatorIdentifier &id, bool isPublic, const OpDefinition &details, OpFactoryFunc factory)
        : isPublic(isPublic), id(id), details(details), simpleFactory_(std::move(factory)) {}
    bool isPublic;
    const OperatorIdentifier id;
    OpDefinition details;
    const OpFactoryFunc &getSimpleFactory() const { return simpleFactory_; }

  private:
    OpFactoryFunc simpleFactory_;
  };
  static void registerOp(const OpInfo &info); // of two with one identifier the first one stays
  static const OpInfo *hostFind(const std::string &domain, const std::string &type, int version);
};

template <class OP> class OpCreator {
public:
  OpCreator(const OpDefinitions &definitions, bool isPublic = true) {
    add(
        definitions,
        [](const OpCreatorInfo &info) -> std::unique_ptr<Op> {
          return std::unique_ptr<OP>(new OP(info.opid, info.settings));
        },
        isPublic);
  }
  OpCreator(const OpDefinitions &definitions, OpManager::OpFactoryFunc factory, bool isPublic = true) {
    add(definitions, factory, isPublic);
  }
  OpCreator(const OpDefinitions &definitions, OpManager::ComplexOpFactoryFunc factory,
            bool isPublic = true) = delete;

private:
  static void add(const OpDefinitions &definitions, const OpManager::OpFactoryFunc &factory, bool isPublic) {
    for (const auto &definition : definitions)
      OpManager::registerOp({definition.first, isPublic, definition.second, factory});
  }
};

} // namespace popart
