// The operators' lowerings: each unpacks its tensors and calls one function of graph.hpp.
#include "op.hpp"

#include <popart/popx/opx.hpp>
#include <popart/popx/opxmanager.hpp>
#include <popart/region.hpp>

#include <set>

namespace proxy_norm {
namespace {

using popart::InIndex;
using popart::OutIndex;
using popart::popx::Devicex;
using popart::popx::InputCreatorType;
using popart::popx::Opx;
using poplar::program::Sequence;

// Parameters are laid out by the operator; activations take whatever layout their producers and consumers like,
// as the operator leaves every element where it is.
class ProxyNormOpx : public Opx {
public:
  ProxyNormOpx(popart::Op *op, Devicex *devicex, InIndex activations, InIndex firstParameter, InIndex endParameter)
      : Opx(op, devicex), activations_(activations), firstParameter_(firstParameter), endParameter_(endParameter) {
  }

  InputCreatorType getInputCreatorType(InIndex index) const final {
    if (index == activations_)
      return InputCreatorType::CanUnwind;
    return index >= firstParameter_ && index < endParameter_ ? InputCreatorType::CanCreate
                                                             : InputCreatorType::Deadend;
  }
  // PopART 3.4 asks createInputTensor(), which asks this; in earlier 3.x versions that one is final.
  poplar::Tensor createInput(InIndex index, const poplar::DebugNameAndId &dnai) const final {
    const poplar::Type type = inInfo(index).dataType() == popart::DataType::FLOAT16 ? poplar::HALF : poplar::FLOAT;
    return createParameter(graph(), type, static_cast<std::size_t>(inInfo(index).nelms()), dnai);
  }
  std::set<popart::TensorId> mustExistBeforeCreate(int) const final { return {}; }
  // PopART asks for every output. The activations have the layout of the first, y; statistics are of other shapes.
  bool canUnwind(InIndex in, OutIndex out) const final { return in == activations_ && out == 0; }
  poplar::Tensor unwindTensorLayout(poplar::Tensor tensor, InIndex, OutIndex) const final { return tensor; }
  popart::view::RegMap unwindRegion(InIndex, OutIndex) const final {
    return [](const popart::view::Region &region) { return popart::view::Regions(1, region); };
  }

protected:
  const ProxySettings &proxySettings() const { return getOp<SettingsOp>().proxySettings(); }

private:
  InIndex activations_, firstParameter_, endParameter_;
};

constexpr InIndex kNone = -1;

class ProxyNormStatsOpx : public ProxyNormOpx {
public:
  using Op = ProxyNormStatsOp;
  ProxyNormStatsOpx(popart::Op *op, Devicex *devicex) : ProxyNormOpx(op, devicex, kNone, Op::Beta, Op::Inputs) {
    verifyOp<Op>(op, proxyNormStatsId());
  }
  void grow(Sequence &program) const final {
    const Statistics out = proxyNormStats(
        graph(),
        {getInTensor(Op::Beta), getInTensor(Op::Gamma), getInTensor(Op::ProxyBeta), getInTensor(Op::ProxyGamma)},
        proxySettings(), program, getDebugNameAndId());
    setOutTensor(Op::Mean, out.mean);
    setOutTensor(Op::Inverse, out.inverse);
  }
};

class ProxyNormStatsGradOpx : public Opx {
public:
  using Op = ProxyNormStatsGradOp;
  ProxyNormStatsGradOpx(popart::Op *op, Devicex *devicex) : Opx(op, devicex) {
    verifyOp<Op>(op, proxyNormStatsGradId());
  }
  void grow(Sequence &program) const final {
    const Parameters out = proxyNormStatsGrad(
        graph(),
        {getInTensor(Op::Beta), getInTensor(Op::Gamma), getInTensor(Op::ProxyBeta), getInTensor(Op::ProxyGamma)},
        getInTensor(Op::Inverse), {gradient(Op::GradMean), gradient(Op::GradInverse)}, getOp<Op>().proxySettings(),
        program, getDebugNameAndId());
    setOutTensor(ProxyNormStatsOp::Beta, out.beta);
    setOutTensor(ProxyNormStatsOp::Gamma, out.gamma);
    setOutTensor(ProxyNormStatsOp::ProxyBeta, out.proxyBeta);
    setOutTensor(ProxyNormStatsOp::ProxyGamma, out.proxyGamma);
  }

private:
  // The two optional inputs.
  poplar::Tensor gradient(InIndex index) const {
    if (hasInput(index))
      return getInTensor(index);
    return zerosByChannel(graph(), static_cast<std::size_t>(inInfo(Op::Beta).nelms()), getDebugNameAndId());
  }
};

class ProxyNormActOpx : public ProxyNormOpx {
public:
  using Op = ProxyNormActOp;
  ProxyNormActOpx(popart::Op *op, Devicex *devicex) : ProxyNormOpx(op, devicex, Op::X, Op::Beta, Op::Inputs) {
    verifyOp<Op>(op, proxyNormActId());
  }
  void grow(Sequence &program) const final {
    setOutTensor(Op::Y, proxyNormAct(graph(), getInTensor(Op::X), getInTensor(Op::Beta), getInTensor(Op::Gamma),
                                     {getInTensor(Op::Mean), getInTensor(Op::Inverse)}, proxySettings(), program,
                                     getDebugNameAndId()));
  }
};

class ProxyNormActGradOpx : public Opx {
public:
  using Op = ProxyNormActGradOp;
  ProxyNormActGradOpx(popart::Op *op, Devicex *devicex) : Opx(op, devicex) {
    verifyOp<Op>(op, proxyNormActGradId());
  }
  void grow(Sequence &program) const final {
    const ActGradients out =
        proxyNormActGrad(graph(), getInTensor(Op::X), getInTensor(Op::Grad), getInTensor(Op::Beta),
                         getInTensor(Op::Gamma), {getInTensor(Op::Mean), getInTensor(Op::Inverse)},
                         getOp<Op>().proxySettings(), program, getDebugNameAndId());
    setOutTensor(ProxyNormActOp::X, out.x);
    setOutTensor(ProxyNormActOp::Beta, out.beta);
    setOutTensor(ProxyNormActOp::Gamma, out.gamma);
    setOutTensor(ProxyNormActOp::Mean, out.mean);
    setOutTensor(ProxyNormActOp::Inverse, out.inverse);
  }
};

class GroupNormProxyNormActOpx : public ProxyNormOpx {
public:
  using Op = GroupNormProxyNormActOp;
  GroupNormProxyNormActOpx(popart::Op *op, Devicex *devicex)
      : ProxyNormOpx(op, devicex, Op::X, Op::Beta, Op::Inputs) {
    verifyOp<Op>(op, groupNormProxyNormActId());
  }
  void grow(Sequence &program) const final {
    const Normalised out = groupNormProxyNormAct(
        graph(), getInTensor(Op::X),
        {getInTensor(Op::Beta), getInTensor(Op::Gamma), getInTensor(Op::ProxyBeta), getInTensor(Op::ProxyGamma)},
        proxySettings(), program, getDebugNameAndId());
    setOutTensor(Op::Y, out.y);
    setOutTensor(Op::GroupMean, out.groupMean);
    setOutTensor(Op::GroupInverse, out.groupInverse);
    setOutTensor(Op::Mean, out.statistics.mean);
    setOutTensor(Op::Inverse, out.statistics.inverse);
  }
};

class GroupNormProxyNormActGradOpx : public Opx {
public:
  using Op = GroupNormProxyNormActGradOp;
  GroupNormProxyNormActGradOpx(popart::Op *op, Devicex *devicex) : Opx(op, devicex) {
    verifyOp<Op>(op, groupNormProxyNormActGradId());
  }
  void grow(Sequence &program) const final {
    const Normalised forward = {poplar::Tensor(),
                                getInTensor(Op::GroupMean),
                                getInTensor(Op::GroupInverse),
                                {getInTensor(Op::Mean), getInTensor(Op::Inverse)}};
    const NormGradients out = groupNormProxyNormActGrad(
        graph(), getInTensor(Op::X), getInTensor(Op::Grad),
        {getInTensor(Op::Beta), getInTensor(Op::Gamma), getInTensor(Op::ProxyBeta), getInTensor(Op::ProxyGamma)},
        forward, getOp<Op>().proxySettings(), program, getDebugNameAndId());
    setOutTensor(GroupNormProxyNormActOp::X, out.x);
    setOutTensor(GroupNormProxyNormActOp::Beta, out.parameters.beta);
    setOutTensor(GroupNormProxyNormActOp::Gamma, out.parameters.gamma);
    setOutTensor(GroupNormProxyNormActOp::ProxyBeta, out.parameters.proxyBeta);
    setOutTensor(GroupNormProxyNormActOp::ProxyGamma, out.parameters.proxyGamma);
  }
};

const popart::popx::OpxCreator<ProxyNormStatsOpx> proxyNormStatsOpx(proxyNormStatsId());
const popart::popx::OpxCreator<ProxyNormStatsGradOpx> proxyNormStatsGradOpx(proxyNormStatsGradId());
const popart::popx::OpxCreator<ProxyNormActOpx> proxyNormActOpx(proxyNormActId());
const popart::popx::OpxCreator<ProxyNormActGradOpx> proxyNormActGradOpx(proxyNormActGradId());
const popart::popx::OpxCreator<GroupNormProxyNormActOpx> groupNormProxyNormActOpx(groupNormProxyNormActId());
const popart::popx::OpxCreator<GroupNormProxyNormActGradOpx>
    groupNormProxyNormActGradOpx(groupNormProxyNormActGradId());

} // namespace
} // namespace proxy_norm
