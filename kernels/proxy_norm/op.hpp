// The operators in PopART's intermediate representation: domain "ipu_train", version 1.
//
// ProxyNormStats         (beta, gamma, proxy_beta, proxy_gamma) -> (mean, inverse)
// ProxyNormAct           (x, beta, gamma, mean, inverse) -> y
// GroupNormProxyNormAct  (x, beta, gamma, proxy_beta, proxy_gamma)
//                        -> (y, group_mean [N, G], group_inverse [N, G], mean, inverse)
//
// Attributes: activation ("relu" or "silu"), epsilon (of the proxy's variance), quantiles (0: the exact
// expectation), groups, norm_epsilon, proxy (0: m = 0 and s = 1, a group norm with its activation). Statistics are
// float whatever the type of the activations, and are outputs so that the gradient reads them instead of computing
// them again; they carry no gradient of their own, except those of ProxyNormStats.
#pragma once

#include "graph.hpp"

#include <popart/names.hpp>
#include <popart/op.hpp>
#include <popart/operatoridentifier.hpp>
#include <popart/tensorinfo.hpp>

#include <map>
#include <memory>
#include <set>
#include <vector>

namespace proxy_norm {

const popart::OperatorIdentifier &proxyNormStatsId();
const popart::OperatorIdentifier &proxyNormStatsGradId();
const popart::OperatorIdentifier &proxyNormActId();
const popart::OperatorIdentifier &proxyNormActGradId();
const popart::OperatorIdentifier &groupNormProxyNormActId();
const popart::OperatorIdentifier &groupNormProxyNormActGradId();

// What all six share: the attributes.
class SettingsOp : public popart::Op {
public:
  SettingsOp(const popart::OperatorIdentifier &opid, const ProxySettings &proxySettings,
             const popart::Op::Settings &settings)
      : popart::Op(opid, settings), proxySettings_(proxySettings) {}

  void appendAttributes(popart::OpSerialiserBase &serialiser) const override;
  void appendOutlineAttributes(popart::OpSerialiserBase &serialiser) const override;
  float getSubgraphValue() const final { return getHighSubgraphValue(); }
  const ProxySettings &proxySettings() const { return proxySettings_; }
  // The number of the forward operator, by which its tensors and its gradient's spread over the tiles.
  virtual long long spreadBy() const { return id; }

private:
  void appendSettings(popart::OpSerialiserBase &serialiser) const;
  ProxySettings proxySettings_;
};

// A gradient operator: its outputs have the shapes and types of the forward operator's inputs.
class GradOp : public SettingsOp {
public:
  GradOp(const popart::OperatorIdentifier &opid, const SettingsOp &forward, int inputs);
  void setup() final;
  long long spreadBy() const final { return spreadBy_; }

private:
  long long spreadBy_;
  std::vector<popart::TensorInfo> forwardInputs_;
};

class ProxyNormStatsOp : public SettingsOp {
public:
  using SettingsOp::SettingsOp;
  enum In { Beta, Gamma, ProxyBeta, ProxyGamma, Inputs };
  enum Out { Mean, Inverse };
  std::unique_ptr<popart::Op> clone() const final;
  void setup() final;
  std::vector<std::unique_ptr<popart::Op>> getGradOps() final;
};

class ProxyNormStatsGradOp : public GradOp {
public:
  explicit ProxyNormStatsGradOp(const ProxyNormStatsOp &forward);
  enum In { Beta, Gamma, ProxyBeta, ProxyGamma, Inverse, GradMean, GradInverse };
  std::unique_ptr<popart::Op> clone() const final;
  std::set<popart::InIndex> optionalInputs() const final;
  const std::vector<popart::GradInOutMapper> &gradInputInfo() const final;
  const std::map<int, int> &gradOutToNonGradIn() const final;
};

class ProxyNormActOp : public SettingsOp {
public:
  using SettingsOp::SettingsOp;
  enum In { X, Beta, Gamma, Mean, Inverse, Inputs };
  enum Out { Y };
  std::unique_ptr<popart::Op> clone() const final;
  void setup() final;
  std::vector<std::unique_ptr<popart::Op>> getGradOps() final;
};

class ProxyNormActGradOp : public GradOp {
public:
  explicit ProxyNormActGradOp(const ProxyNormActOp &forward);
  enum In { X, Beta, Gamma, Mean, Inverse, Grad };
  std::unique_ptr<popart::Op> clone() const final;
  const std::vector<popart::GradInOutMapper> &gradInputInfo() const final;
  const std::map<int, int> &gradOutToNonGradIn() const final;
};

class GroupNormProxyNormActOp : public SettingsOp {
public:
  using SettingsOp::SettingsOp;
  enum In { X, Beta, Gamma, ProxyBeta, ProxyGamma, Inputs };
  enum Out { Y, GroupMean, GroupInverse, Mean, Inverse };
  std::unique_ptr<popart::Op> clone() const final;
  void setup() final;
  std::vector<std::unique_ptr<popart::Op>> getGradOps() final;
  bool isNorm() const final { return true; } // "recompute norms only" means this one too
};

class GroupNormProxyNormActGradOp : public GradOp {
public:
  explicit GroupNormProxyNormActGradOp(const GroupNormProxyNormActOp &forward);
  enum In { X, Beta, Gamma, ProxyBeta, ProxyGamma, GroupMean, GroupInverse, Mean, Inverse, Grad };
  std::unique_ptr<popart::Op> clone() const final;
  const std::vector<popart::GradInOutMapper> &gradInputInfo() const final;
  const std::map<int, int> &gradOutToNonGradIn() const final;
};

} // namespace proxy_norm
