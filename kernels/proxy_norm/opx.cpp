// The operators' lowerings: each unpacks its tensors and calls one function of graph.hpp.
#include "op.hpp"

#include <popart/popx/devicex.hpp>
#include <popart/popx/irlowering.hpp>
#include <popart/popx/opx.hpp>
#include <popart/popx/opxmanager.hpp>
#include <popart/popx/poptensors.hpp>
#include <popart/region.hpp>

#include <set>
#include <string>

namespace proxy_norm {
namespace {

using popart::InIndex;
using popart::OutIndex;
using popart::popx::Devicex;
using popart::popx::InputCreatorType;
using popart::popx::Opx;
using poplar::program::Sequence;

// The constants of one lowering, beside PopART's own tensors: they end with the graph that they are in.
class LoweringsConstants : public SharedConstants {
public:
  LoweringsConstants(popart::popx::PopTensors &tensors, int64_t virtualGraph)
      : tensors_(tensors), prefix_("ipu_train/proxy_norm/graph" + std::to_string(virtualGraph) + "/") {}
  bool has(const std::string &name) const final { return tensors_.contains(prefix_ + name); }
  poplar::Tensor get(const std::string &name) const final { return tensors_.get(prefix_ + name); }
  void keep(const std::string &name, const poplar::Tensor &constant) final {
    tensors_.insertUnsafe(prefix_ + name, constant); // without a tensor in the IR to compare with
  }

private:
  popart::popx::PopTensors &tensors_;
  std::string prefix_;
};

// What all six share: settings, and where they are built.
class SiteOpx : public Opx {
public:
  using Opx::Opx;

protected:
  const ProxySettings &proxySettings() const { return getOp<SettingsOp>().proxySettings(); }
  unsigned start() const { return startTile(graph(), getOp<SettingsOp>().spreadBy()); }
  template <typename Build> auto build(Sequence &program, const Build &add) const {
    LoweringsConstants constants(dv_p->lowering().tensors(), getVirtualGraphId());
    return add(Site{graph(), program, getDebugNameAndId(), start(), constants});
  }
};

// Parameters are laid out by the operator; activations take whatever layout their producers and consumers like,
// as the operator leaves every element where it is.
class ProxyNormOpx : public SiteOpx {
public:
  ProxyNormOpx(popart::Op *op, Devicex *devicex, InIndex activations, InIndex firstParameter, InIndex endParameter)
      : SiteOpx(op, devicex), activations_(activations), firstParameter_(firstParameter), endParameter_(endParameter) {
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
    return createParameter(graph(), type, static_cast<std::size_t>(inInfo(index).nelms()), start(), dnai);
  }
  std::set<popart::TensorId> mustExistBeforeCreate(int) const final { return {}; }
  // PopART asks for every output. The activations have the layout of the first, y; statistics are of other shapes.
  bool canUnwind(InIndex in, OutIndex out) const final { return in == activations_ && out == 0; }
  poplar::Tensor unwindTensorLayout(poplar::Tensor tensor, InIndex, OutIndex) const final { return tensor; }
  popart::view::RegMap unwindRegion(InIndex, OutIndex) const final {
    return [](const popart::view::Region &region) { return popart::view::Regions(1, region); };
  }

private:
  InIndex activations_, firstParameter_, endParameter_;
};

constexpr InIndex kNone = -1;

template <typename Op> Parameters parametersOf(const Opx &opx) {
  return {opx.getInTensor(Op::Beta), opx.getInTensor(Op::Gamma), opx.getInTensor(Op::ProxyBeta),
          opx.getInTensor(Op::ProxyGamma)};
}

class ProxyNormStatsOpx : public ProxyNormOpx {
public:
  using Op = ProxyNormStatsOp;
  ProxyNormStatsOpx(popart::Op *op, Devicex *devicex) : ProxyNormOpx(op, devicex, kNone, Op::Beta, Op::Inputs) {
    verifyOp<Op>(op, proxyNormStatsId());
  }
  void grow(Sequence &program) const final {
    const Statistics out = build(
        program, [&](const Site &site) { return proxyNormStats(site, parametersOf<Op>(*this), proxySettings()); });
    setOutTensor(Op::Mean, out.mean);
    setOutTensor(Op::Inverse, out.inverse);
  }
};

class ProxyNormStatsGradOpx : public SiteOpx {
public:
  using Op = ProxyNormStatsGradOp;
  ProxyNormStatsGradOpx(popart::Op *op, Devicex *devicex) : SiteOpx(op, devicex) {
    verifyOp<Op>(op, proxyNormStatsGradId());
  }
  void grow(Sequence &program) const final {
    const Parameters out = build(program, [&](const Site &site) {
      return proxyNormStatsGrad(site, parametersOf<Op>(*this), getInTensor(Op::Inverse),
                                {gradient(Op::GradMean), gradient(Op::GradInverse)}, proxySettings());
    });
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
    return zerosByChannel(graph(), static_cast<std::size_t>(inInfo(Op::Beta).nelms()), start(), getDebugNameAndId());
  }
};

class ProxyNormActOpx : public ProxyNormOpx {
public:
  using Op = ProxyNormActOp;
  ProxyNormActOpx(popart::Op *op, Devicex *devicex) : ProxyNormOpx(op, devicex, Op::X, Op::Beta, Op::Inputs) {
    verifyOp<Op>(op, proxyNormActId());
  }
  void grow(Sequence &program) const final {
    setOutTensor(Op::Y, build(program, [&](const Site &site) {
                   return proxyNormAct(site, getInTensor(Op::X), getInTensor(Op::Beta), getInTensor(Op::Gamma),
                                       {getInTensor(Op::Mean), getInTensor(Op::Inverse)}, proxySettings());
                 }));
  }
};

class ProxyNormActGradOpx : public SiteOpx {
public:
  using Op = ProxyNormActGradOp;
  ProxyNormActGradOpx(popart::Op *op, Devicex *devicex) : SiteOpx(op, devicex) {
    verifyOp<Op>(op, proxyNormActGradId());
  }
  void grow(Sequence &program) const final {
    const ActGradients out = build(program, [&](const Site &site) {
      return proxyNormActGrad(site, getInTensor(Op::X), getInTensor(Op::Grad), getInTensor(Op::Beta),
                              getInTensor(Op::Gamma), {getInTensor(Op::Mean), getInTensor(Op::Inverse)},
                              proxySettings());
    });
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
    const Normalised out = build(program, [&](const Site &site) {
      return groupNormProxyNormAct(site, getInTensor(Op::X), parametersOf<Op>(*this), proxySettings());
    });
    setOutTensor(Op::Y, out.y);
    setOutTensor(Op::GroupMean, out.groupMean);
    setOutTensor(Op::GroupInverse, out.groupInverse);
    setOutTensor(Op::Mean, out.statistics.mean);
    setOutTensor(Op::Inverse, out.statistics.inverse);
  }
};

class GroupNormProxyNormActGradOpx : public SiteOpx {
public:
  using Op = GroupNormProxyNormActGradOp;
  GroupNormProxyNormActGradOpx(popart::Op *op, Devicex *devicex) : SiteOpx(op, devicex) {
    verifyOp<Op>(op, groupNormProxyNormActGradId());
  }
  void grow(Sequence &program) const final {
    const Normalised forward = {poplar::Tensor(),
                                getInTensor(Op::GroupMean),
                                getInTensor(Op::GroupInverse),
                                {getInTensor(Op::Mean), getInTensor(Op::Inverse)}};
    const NormGradients out = build(program, [&](const Site &site) {
      return groupNormProxyNormActGrad(site, getInTensor(Op::X), getInTensor(Op::Grad), parametersOf<Op>(*this),
                                       forward, proxySettings());
    });
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
