#include "op.hpp"

#include "codelet_path.hpp"

#include <popart/attributes.hpp>
#include <popart/error.hpp>
#include <popart/ir.hpp>
#include <popart/opmanager.hpp>
#include <popart/opserialiser.hpp>
#include <popart/sessionoptions.hpp>
#include <popart/shapeinference.hpp>

#include <cstdint>
#include <cstring>
#include <string>

namespace proxy_norm {

// Functions and not constants: registrations of other files may ask before this file's constants are made.
const popart::OperatorIdentifier &proxyNormStatsId() {
  static const popart::OperatorIdentifier id{"ipu_train", "ProxyNormStats", 1, {4, 4}, 2};
  return id;
}
const popart::OperatorIdentifier &proxyNormStatsGradId() {
  static const popart::OperatorIdentifier id{"ipu_train", "ProxyNormStatsGrad", 1, {5, 7}, 4};
  return id;
}
const popart::OperatorIdentifier &proxyNormActId() {
  static const popart::OperatorIdentifier id{"ipu_train", "ProxyNormAct", 1, {5, 5}, 1};
  return id;
}
const popart::OperatorIdentifier &proxyNormActGradId() {
  static const popart::OperatorIdentifier id{"ipu_train", "ProxyNormActGrad", 1, {6, 6}, 5};
  return id;
}
const popart::OperatorIdentifier &groupNormProxyNormActId() {
  static const popart::OperatorIdentifier id{"ipu_train", "GroupNormProxyNormAct", 1, {5, 5}, 5};
  return id;
}
const popart::OperatorIdentifier &groupNormProxyNormActGradId() {
  static const popart::OperatorIdentifier id{"ipu_train", "GroupNormProxyNormActGrad", 1, {10, 10}, 5};
  return id;
}

namespace {

using popart::DataType;
using popart::GradInOutMapper;
using popart::GradOpInType;
using popart::Shape;
using popart::TensorInfo;

std::string text(const Shape &shape) {
  std::string out;
  for (const auto size : shape)
    out += (out.empty() ? "[" : ", ") + std::to_string(size);
  return out.empty() ? "[]" : out + "]";
}

void require(bool condition, const std::string &message) {
  if (!condition)
    throw popart::error("Proxy Norm: {}", message);
}

// Parameters are vectors of one type, the activations' or float.
void checkParameters(const std::vector<TensorInfo> &parameters, int64_t channels) {
  for (const TensorInfo &parameter : parameters) {
    require(parameter.shape() == Shape{channels},
            "a parameter or statistic has shape " + text(parameter.shape()) + ", not " + text({channels}));
    require(parameter.dataType() == parameters[0].dataType(), "the parameters must all have one type");
  }
}

void checkActivations(const TensorInfo &x, const TensorInfo &parameter, int64_t groups) {
  require(x.rank() >= 2 && x.nelms() > 0, "x must be [N, C, ...] and not empty, but is " + text(x.shape()));
  require(groups == 0 || x.dim(1) % groups == 0,
          std::to_string(x.dim(1)) + " channels do not divide into " + std::to_string(groups) + " groups");
  require(x.dataType() == DataType::FLOAT16 || parameter.dataType() == DataType::FLOAT,
          "float activations need float parameters");
}

TensorInfo floats(const Shape &shape) { return TensorInfo(DataType::FLOAT, shape); }

// Attributes as a factory gets them.
ProxySettings settingsOf(const popart::Attributes &attributes, bool norm) {
  using popart::Attributes;
  ProxySettings settings;
  const std::string activation = attributes.getAttribute<Attributes::String>("activation", "relu");
  require(activation == "relu" || activation == "silu", "activation must be relu or silu, not " + activation);
  settings.silu = activation == "silu";
  settings.eps = attributes.getAttribute<Attributes::Float>("epsilon", settings.eps);
  require(settings.eps > 0, "epsilon must be positive");
  const int64_t quantiles = attributes.getAttribute<Attributes::Int>("quantiles", settings.quantiles);
  require(quantiles >= 0 && quantiles <= 65535, "quantiles must lie in 0 (exact) .. 65535");
  settings.quantiles = static_cast<unsigned>(quantiles);
  if (norm) {
    const int64_t groups = attributes.getAttribute<Attributes::Int>("groups", 1);
    require(groups >= 1, "groups must be at least 1");
    settings.groups = static_cast<unsigned>(groups);
    settings.normEps = attributes.getAttribute<Attributes::Float>("norm_epsilon", settings.normEps);
    settings.proxy = attributes.getAttribute<Attributes::Int>("proxy", 1) != 0;
    require(settings.normEps >= 0, "norm_epsilon must not be negative");
  }
  return settings;
}

std::map<int, int> identity(int count) {
  std::map<int, int> out;
  for (int i = 0; i < count; ++i)
    out[i] = i;
  return out;
}

// PopART writes a float with six decimals, in which 1e-7 and 1e-8 are one number: the bits tell them apart.
void appendBits(popart::OpSerialiserBase &serialiser, const std::string &key, float value) {
  std::uint32_t bits;
  static_assert(sizeof bits == sizeof value, "IEEE 754 single precision");
  std::memcpy(&bits, &value, sizeof bits);
  serialiser.appendAttribute(key, bits);
}

} // namespace

void SettingsOp::appendSettings(popart::OpSerialiserBase &serialiser) const {
  serialiser.appendAttribute("activation", std::string(proxySettings_.silu ? "silu" : "relu"));
  appendBits(serialiser, "epsilon", proxySettings_.eps);
  serialiser.appendAttribute("quantiles", static_cast<int64_t>(proxySettings_.quantiles));
  serialiser.appendAttribute("groups", static_cast<int64_t>(proxySettings_.groups));
  appendBits(serialiser, "norm_epsilon", proxySettings_.normEps);
  serialiser.appendAttribute("proxy", static_cast<int64_t>(proxySettings_.proxy));
}

void SettingsOp::appendAttributes(popart::OpSerialiserBase &serialiser) const {
  popart::Op::appendAttributes(serialiser);
  appendSettings(serialiser);
  serialiser.appendAttribute("code", codeHash()); // PopART's executable cache knows nothing else of our code
}

void SettingsOp::appendOutlineAttributes(popart::OpSerialiserBase &serialiser) const {
  popart::Op::appendOutlineAttributes(serialiser);
  appendSettings(serialiser);
}

GradOp::GradOp(const popart::OperatorIdentifier &opid, const SettingsOp &forward, int inputs)
    : SettingsOp(opid, forward.proxySettings(), forward.getSettings()), spreadBy_(forward.spreadBy()) {
  for (int i = 0; i < inputs; ++i)
    forwardInputs_.push_back(forward.inInfo(i));
}

void GradOp::setup() {
  for (std::size_t i = 0; i < forwardInputs_.size(); ++i)
    outInfo(static_cast<int>(i)) = forwardInputs_[i];
}

// ---- ProxyNormStats

std::unique_ptr<popart::Op> ProxyNormStatsOp::clone() const { return std::make_unique<ProxyNormStatsOp>(*this); }

void ProxyNormStatsOp::setup() {
  checkParameters({inInfo(Beta), inInfo(Gamma), inInfo(ProxyBeta), inInfo(ProxyGamma)}, inInfo(Beta).nelms());
  outInfo(Mean) = floats(inShape(Beta));
  outInfo(Inverse) = floats(inShape(Beta));
}

std::vector<std::unique_ptr<popart::Op>> ProxyNormStatsOp::getGradOps() {
  std::vector<std::unique_ptr<popart::Op>> ops;
  ops.emplace_back(std::make_unique<ProxyNormStatsGradOp>(*this));
  return ops;
}

ProxyNormStatsGradOp::ProxyNormStatsGradOp(const ProxyNormStatsOp &forward)
    : GradOp(proxyNormStatsGradId(), forward, ProxyNormStatsOp::Inputs) {}

std::unique_ptr<popart::Op> ProxyNormStatsGradOp::clone() const {
  return std::make_unique<ProxyNormStatsGradOp>(*this);
}

// A statistic that nothing depends on has no gradient: PopART leaves the input open if it may, else it refuses.
std::set<popart::InIndex> ProxyNormStatsGradOp::optionalInputs() const { return {GradMean, GradInverse}; }

const std::vector<GradInOutMapper> &ProxyNormStatsGradOp::gradInputInfo() const {
  using Forward = ProxyNormStatsOp;
  static const std::vector<GradInOutMapper> info = {{Beta, Forward::Beta, GradOpInType::In},
                                                    {Gamma, Forward::Gamma, GradOpInType::In},
                                                    {ProxyBeta, Forward::ProxyBeta, GradOpInType::In},
                                                    {ProxyGamma, Forward::ProxyGamma, GradOpInType::In},
                                                    {Inverse, Forward::Inverse, GradOpInType::Out},
                                                    {GradMean, Forward::Mean, GradOpInType::GradOut},
                                                    {GradInverse, Forward::Inverse, GradOpInType::GradOut}};
  return info;
}

const std::map<int, int> &ProxyNormStatsGradOp::gradOutToNonGradIn() const {
  static const std::map<int, int> map = identity(ProxyNormStatsOp::Inputs);
  return map;
}

// ---- ProxyNormAct

std::unique_ptr<popart::Op> ProxyNormActOp::clone() const { return std::make_unique<ProxyNormActOp>(*this); }

void ProxyNormActOp::setup() {
  checkActivations(inInfo(X), inInfo(Beta), 0);
  checkParameters({inInfo(Beta), inInfo(Gamma)}, inInfo(X).dim(1));
  checkParameters({inInfo(Mean), inInfo(Inverse)}, inInfo(X).dim(1));
  require(inInfo(Mean).dataType() == DataType::FLOAT, "mean and inverse must be float");
  outInfo(Y) = inInfo(X);
}

std::vector<std::unique_ptr<popart::Op>> ProxyNormActOp::getGradOps() {
  std::vector<std::unique_ptr<popart::Op>> ops;
  ops.emplace_back(std::make_unique<ProxyNormActGradOp>(*this));
  return ops;
}

ProxyNormActGradOp::ProxyNormActGradOp(const ProxyNormActOp &forward)
    : GradOp(proxyNormActGradId(), forward, ProxyNormActOp::Inputs) {}

std::unique_ptr<popart::Op> ProxyNormActGradOp::clone() const {
  return std::make_unique<ProxyNormActGradOp>(*this);
}

const std::vector<GradInOutMapper> &ProxyNormActGradOp::gradInputInfo() const {
  using Forward = ProxyNormActOp;
  static const std::vector<GradInOutMapper> info = {{X, Forward::X, GradOpInType::In},
                                                    {Beta, Forward::Beta, GradOpInType::In},
                                                    {Gamma, Forward::Gamma, GradOpInType::In},
                                                    {Mean, Forward::Mean, GradOpInType::In},
                                                    {Inverse, Forward::Inverse, GradOpInType::In},
                                                    {Grad, Forward::Y, GradOpInType::GradOut}};
  return info;
}

const std::map<int, int> &ProxyNormActGradOp::gradOutToNonGradIn() const {
  static const std::map<int, int> map = identity(ProxyNormActOp::Inputs);
  return map;
}

// ---- GroupNormProxyNormAct

std::unique_ptr<popart::Op> GroupNormProxyNormActOp::clone() const {
  return std::make_unique<GroupNormProxyNormActOp>(*this);
}

void GroupNormProxyNormActOp::setup() {
  const TensorInfo &x = inInfo(X);
  const int64_t groups = proxySettings().groups;
  checkActivations(x, inInfo(Beta), groups);
  checkParameters({inInfo(Beta), inInfo(Gamma), inInfo(ProxyBeta), inInfo(ProxyGamma)}, x.dim(1));
  // With that option PopART's group norm takes other groups: channel i * G + g is in group g.
  require(groups == 1 || groups == x.dim(1) || !getIr().getSessionOptions().groupNormStridedChannelGrouping,
          "the session option groupNormStridedChannelGrouping is set, but this operator's groups are neighbouring "
          "channels; unset it, or compose Proxy Norm from PopART's own operators");
  outInfo(Y) = x;
  outInfo(GroupMean) = floats({x.dim(0), groups});
  outInfo(GroupInverse) = floats({x.dim(0), groups});
  outInfo(Mean) = floats({x.dim(1)});
  outInfo(Inverse) = floats({x.dim(1)});
}

std::vector<std::unique_ptr<popart::Op>> GroupNormProxyNormActOp::getGradOps() {
  std::vector<std::unique_ptr<popart::Op>> ops;
  ops.emplace_back(std::make_unique<GroupNormProxyNormActGradOp>(*this));
  return ops;
}

GroupNormProxyNormActGradOp::GroupNormProxyNormActGradOp(const GroupNormProxyNormActOp &forward)
    : GradOp(groupNormProxyNormActGradId(), forward, GroupNormProxyNormActOp::Inputs) {}

std::unique_ptr<popart::Op> GroupNormProxyNormActGradOp::clone() const {
  return std::make_unique<GroupNormProxyNormActGradOp>(*this);
}

const std::vector<GradInOutMapper> &GroupNormProxyNormActGradOp::gradInputInfo() const {
  using Forward = GroupNormProxyNormActOp;
  static const std::vector<GradInOutMapper> info = {{X, Forward::X, GradOpInType::In},
                                                    {Beta, Forward::Beta, GradOpInType::In},
                                                    {Gamma, Forward::Gamma, GradOpInType::In},
                                                    {ProxyBeta, Forward::ProxyBeta, GradOpInType::In},
                                                    {ProxyGamma, Forward::ProxyGamma, GradOpInType::In},
                                                    {GroupMean, Forward::GroupMean, GradOpInType::Out},
                                                    {GroupInverse, Forward::GroupInverse, GradOpInType::Out},
                                                    {Mean, Forward::Mean, GradOpInType::Out},
                                                    {Inverse, Forward::Inverse, GradOpInType::Out},
                                                    {Grad, Forward::Y, GradOpInType::GradOut}};
  return info;
}

const std::map<int, int> &GroupNormProxyNormActGradOp::gradOutToNonGradIn() const {
  static const std::map<int, int> map = identity(GroupNormProxyNormActOp::Inputs);
  return map;
}

// ---- Registration

namespace {

using popart::OpDefinition;

const OpDefinition::DataTypes kTypes = {DataType::FLOAT16, DataType::FLOAT};
const OpDefinition::DataTypes kFloat = {DataType::FLOAT};

template <typename OP> popart::OpManager::OpFactoryFunc factory(bool norm) {
  return [norm](const popart::OpCreatorInfo &info) -> std::unique_ptr<popart::Op> {
    return std::make_unique<OP>(info.opid, settingsOf(info.attributes, norm), info.settings);
  };
}

const OpDefinition proxyNormStatsDefinition(
    OpDefinition::Inputs({{"beta", kTypes}, {"gamma", kTypes}, {"proxy_beta", kTypes}, {"proxy_gamma", kTypes}}),
    OpDefinition::Outputs({{"mean", kFloat}, {"inverse", kFloat}}),
    OpDefinition::Attributes({{"activation", {"*"}}, {"epsilon", {"*"}}, {"quantiles", {"*"}}}));
const popart::OpCreator<ProxyNormStatsOp>
    proxyNormStatsCreator(popart::OpDefinitions({{proxyNormStatsId(), proxyNormStatsDefinition}}),
                          factory<ProxyNormStatsOp>(false));

const OpDefinition proxyNormActDefinition(
    OpDefinition::Inputs(
        {{"x", kTypes}, {"beta", kTypes}, {"gamma", kTypes}, {"mean", kFloat}, {"inverse", kFloat}}),
    OpDefinition::Outputs({{"y", kTypes}}), OpDefinition::Attributes({{"activation", {"*"}}}));
const popart::OpCreator<ProxyNormActOp>
    proxyNormActCreator(popart::OpDefinitions({{proxyNormActId(), proxyNormActDefinition}}),
                        factory<ProxyNormActOp>(false));

const OpDefinition groupNormProxyNormActDefinition(
    OpDefinition::Inputs(
        {{"x", kTypes}, {"beta", kTypes}, {"gamma", kTypes}, {"proxy_beta", kTypes}, {"proxy_gamma", kTypes}}),
    OpDefinition::Outputs(
        {{"y", kTypes}, {"group_mean", kFloat}, {"group_inverse", kFloat}, {"mean", kFloat}, {"inverse", kFloat}}),
    OpDefinition::Attributes({{"activation", {"*"}},
                              {"epsilon", {"*"}},
                              {"quantiles", {"*"}},
                              {"groups", {"*"}},
                              {"norm_epsilon", {"*"}},
                              {"proxy", {"*"}}}));
const popart::OpCreator<GroupNormProxyNormActOp> groupNormProxyNormActCreator(
    popart::OpDefinitions({{groupNormProxyNormActId(), groupNormProxyNormActDefinition}}),
    factory<GroupNormProxyNormActOp>(true));

// Shapes for PopART's builder, which asks before an operator exists, and before all shapes are known: what follows
// from an unknown one stays unknown, as with PopART's own operators. A scalar counts as unknown (hasInputShape).
const popart::RegisterShapeInferenceFunction
    proxyNormStatsShapes(proxyNormStatsId(), [](popart::ShapeInferenceContext &context) {
      if (!context.hasInputShape(ProxyNormStatsOp::Beta))
        return;
      context.outInfo(ProxyNormStatsOp::Mean) = floats(context.inShape(ProxyNormStatsOp::Beta));
      context.outInfo(ProxyNormStatsOp::Inverse) = floats(context.inShape(ProxyNormStatsOp::Beta));
    });
const popart::RegisterShapeInferenceFunction
    proxyNormActShapes(proxyNormActId(), [](popart::ShapeInferenceContext &context) {
      if (context.hasInputShape(ProxyNormActOp::X))
        context.outInfo(ProxyNormActOp::Y) = context.inInfo(ProxyNormActOp::X);
    });
const popart::RegisterShapeInferenceFunction
    groupNormProxyNormActShapes(groupNormProxyNormActId(), [](popart::ShapeInferenceContext &context) {
      using Op = GroupNormProxyNormActOp;
      if (!context.hasInputShape(Op::X))
        return;
      const TensorInfo x = context.inInfo(Op::X);
      require(x.rank() >= 2, "x must be [N, C, ...], but is " + text(x.shape()));
      const int64_t groups = context.getAttribute<popart::Attributes::Int>("groups", 1);
      context.outInfo(Op::Y) = x;
      context.outInfo(Op::GroupMean) = floats({x.dim(0), groups});
      context.outInfo(Op::GroupInverse) = floats({x.dim(0), groups});
      context.outInfo(Op::Mean) = floats({x.dim(1)});
      context.outInfo(Op::Inverse) = floats({x.dim(1)});
    });

} // namespace
} // namespace proxy_norm
