#pragma once

#include "../op.hpp"
#include "../region.hpp"
#include "irlowering.hpp"

#include <poplar/Graph.hpp>

#include <set>

namespace popart {
namespace popx {

// The device an Opx builds for: here a lowering, which several operators may share, and the tensors of one operator.
class Devicex {
public:
  explicit Devicex(std::shared_ptr<IrLowering> lowering) : lowering_(std::move(lowering)) {}
  const IrLowering &lowering() const { return *lowering_; }
  IrLowering &lowering() { return *lowering_; }
  poplar::Graph &hostGraph() const { return lowering_->graph(); }
  std::map<int, poplar::Tensor> hostInputs, hostOutputs;

private:
  std::shared_ptr<IrLowering> lowering_;
};

enum class InputCreatorType {
  CanCreate = 0,
  CanUnwind,
  CanCreateOrUnwind,
  Deadend,
  CanDelegate,
  CanDelegateOrUnwind
};

class Opx {
public:
  Opx(Op *op, Devicex *devicex) : op_p(op), dv_p(devicex) {}
  virtual ~Opx() = default;

  virtual void grow(poplar::program::Sequence &) const { throw error("grow is missing for {}", op_p->opid.type); }
  virtual void grow(std::vector<poplar::program::Sequence> &sequences) const { grow(sequences.front()); }

  virtual InputCreatorType getInputCreatorType(InIndex) const { return InputCreatorType::Deadend; }
  virtual bool canUnwind(InIndex i, OutIndex) const {
    const InputCreatorType type = getInputCreatorType(i);
    return type == InputCreatorType::CanUnwind || type == InputCreatorType::CanCreateOrUnwind;
  }
  virtual poplar::Tensor createInput(InIndex, const poplar::DebugNameAndId &) const {
    throw error("createInput is missing for {}", op_p->opid.type);
  }
  virtual poplar::Tensor createInputTensor(InIndex i, const poplar::DebugNameAndId &dnai) const {
    return createInput(i, dnai);
  }
  virtual std::set<TensorId> mustExistBeforeCreate(int) const {
    throw error("mustExistBeforeCreate is missing for {}", op_p->opid.type);
  }
  virtual poplar::Tensor unwindTensorLayout(poplar::Tensor, InIndex, OutIndex) const {
    throw error("unwindTensorLayout is missing for {}", op_p->opid.type);
  }
  virtual view::RegMap unwindRegion(InIndex, OutIndex) const {
    throw error("unwindRegion is missing for {}", op_p->opid.type);
  }

  poplar::Graph &graph() const { return dv_p->hostGraph(); }
  int64_t getVirtualGraphId() const { return 0; }
  const poplar::Tensor &getInTensor(InIndex i) const { return dv_p->hostInputs.at(i); }
  void setOutTensor(OutIndex i, const poplar::Tensor &tensor) const { dv_p->hostOutputs[i] = tensor; }
  bool hasInput(InIndex i) const { return dv_p->hostInputs.count(i) != 0; }
  bool hasOutput(OutIndex i) const { return dv_p->hostOutputs.count(i) != 0; }
  const TensorInfo &inInfo(InIndex i) const { return op_p->inInfo(i); }
  const Shape &inShape(InIndex i) const { return op_p->inShape(i); }

  const poplar::DebugNameAndId
  getDebugNameAndId(const std::string name = "",
                    poplar::SourceLocation = poplar::SourceLocation::Current()) const {
    return poplar::DebugNameAndId(op_p->opid.type, name);
  }
  poplar::DebugContext debugContext(const std::string name = "",
                                    poplar::SourceLocation = poplar::SourceLocation::Current()) const {
    return poplar::DebugContext(getDebugNameAndId(name));
  }

  template <class OP> OP &getOp() const {
    OP *op = dynamic_cast<OP *>(op_p);
    if (op == nullptr)
      throw error("the operator is no {}", op_p->opid.type);
    return *op;
  }
  template <class OP> void verifyOp(Op *op, const OperatorIdentifier &opid) {
    if (op->opid.domain != opid.domain || op->opid.type != opid.type)
      throw error("cannot lower {} as {}", op->opid.type, opid.type);
  }

  Op *op_p;

protected:
  Devicex *dv_p;
};

} // namespace popx
} // namespace popart
