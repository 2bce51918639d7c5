#pragma once

#include "attributes.hpp"
#include "error.hpp"
#include "names.hpp"
#include "operatoridentifier.hpp"
#include "tensorinfo.hpp"

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <vector>

namespace popart {

class OpSerialiserBase;

class Ir;

// PopART's graph of operators: here there is one operator at a time, and its session's options to know.
class Graph {
public:
  Graph(Ir &ir, int64_t hostFirstId) : ir_(ir), nextId_(hostFirstId) {}
  Ir &getIr() const { return ir_; }
  int64_t hostNextId() { return nextId_++; }

private:
  Ir &ir_;
  int64_t nextId_;
};

enum class GradOpInType { In = 0, Out, GradOut };

class GradInOutMapper {
public:
  GradInOutMapper(InIndex iGrad, int iNonGrad, GradOpInType type) : iGrad(iGrad), iNonGrad(iNonGrad), type(type) {}
  InIndex iGrad;
  int iNonGrad;
  GradOpInType type;
};

class Op {
public:
  struct Settings {
    Settings(Graph &graph, const std::string &name) : graph(graph), name(name) {}
    virtual ~Settings() = default;
    Settings(const Settings &) = default;
    std::reference_wrapper<Graph> graph;
    std::string name;
  };

  int64_t id{-1}; // the number that the operator has among all of its session
  OperatorIdentifier opid;
  Settings settings;
  Settings &getSettings() { return settings; }
  const Settings &getSettings() const { return settings; }

  Op(const OperatorIdentifier &opid, const Settings &settings)
      : id(settings.graph.get().hostNextId()), opid(opid), settings(settings) {}
  // a copy is not connected to any tensor
  Op(const Op &other) : id(other.settings.graph.get().hostNextId()), opid(other.opid), settings(other.settings) {}
  Op &operator=(const Op &) = delete;
  virtual ~Op() = default;

  virtual std::unique_ptr<Op> clone() const = 0;
  virtual float getSubgraphValue() const = 0;
  float getHighSubgraphValue() const { return 1000.0f; }
  float getLowSubgraphValue() const { return 0.1f; }

  virtual void setup() { throw error("setup is missing for {}", opid.type); }
  virtual std::vector<std::unique_ptr<Op>> getGradOps() { return {}; }
  virtual void appendAttributes(OpSerialiserBase &) const {}
  virtual void appendOutlineAttributes(OpSerialiserBase &) const {}
  virtual const std::vector<GradInOutMapper> &gradInputInfo() const {
    throw error("gradInputInfo is missing for {}", opid.type);
  }
  virtual const std::map<int, int> &gradOutToNonGradIn() const {
    throw error("gradOutToNonGradIn is missing for {}", opid.type);
  }
  virtual std::set<InIndex> optionalInputs() const { return {}; }
  virtual bool isNorm() const { return false; }
  const Ir &getIr() const { return settings.graph.get().getIr(); }

  TensorInfo &inInfo(InIndex i) { return hostInputs.at(i); }
  const TensorInfo &inInfo(InIndex i) const { return hostInputs.at(i); }
  TensorInfo &outInfo(OutIndex i) { return hostOutputs[i]; }
  const TensorInfo &outInfo(OutIndex i) const { return hostOutputs.at(i); }
  const Shape &inShape(InIndex i) const { return inInfo(i).shape(); }
  const Shape &outShape(OutIndex i) const { return outInfo(i).shape(); }
  Rank inRank(InIndex i) const { return inInfo(i).rank(); }
  bool hasInput(InIndex i) const { return hostInputs.count(i) != 0; }

  std::map<int, TensorInfo> hostInputs, hostOutputs;
};

} // namespace popart
