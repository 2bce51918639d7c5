#pragma once

#include "attributes.hpp"
#include "error.hpp"
#include "names.hpp"
#include "opidentifier.hpp"
#include "opserialiser.hpp"
#include "region.hpp"
#include "tensorinfo.hpp"

#include <map>
#include <memory>
#include <vector>

namespace popart {

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
    std::string name;
  };

  Op(const OperatorIdentifier &opid, const Settings &settings) : opid(opid), settings(settings) {}
  Op(const Op &) = default;
  Op &operator=(const Op &) = delete;
  virtual ~Op() = default;

  OperatorIdentifier opid;
  Settings settings;
  const Settings &getSettings() const { return settings; }

  virtual std::unique_ptr<Op> clone() const = 0;
  virtual float getSubgraphValue() const = 0;
  float getHighSubgraphValue() const { return 1000.0f; }
  float getLowSubgraphValue() const { return 0.1f; }

  virtual void setup() { throw error("setup is missing for " + opid.type); }
  virtual std::vector<std::unique_ptr<Op>> getGradOps() { return {}; }
  virtual void appendAttributes(OpSerialiserBase &) const {}
  virtual void appendOutlineAttributes(OpSerialiserBase &) const {}
  virtual const std::vector<GradInOutMapper> &gradInputInfo() const {
    throw error("gradInputInfo is missing for " + opid.type);
  }
  virtual const std::map<int, int> &gradOutToNonGradIn() const {
    throw error("gradOutToNonGradIn is missing for " + opid.type);
  }
  virtual bool isNorm() const { return false; }

  const TensorInfo &inInfo(InIndex i) const { return hostInputs.at(i); }
  TensorInfo &outInfo(OutIndex i) { return hostOutputs[i]; }
  const TensorInfo &outInfo(OutIndex i) const { return hostOutputs.at(i); }
  const Shape &inShape(InIndex i) const { return inInfo(i).shape(); }
  int inRank(InIndex i) const { return inInfo(i).rank(); }
  bool hasInput(InIndex i) const { return hostInputs.count(i) != 0; }

  std::map<int, TensorInfo> hostInputs, hostOutputs;
};

} // namespace popart
