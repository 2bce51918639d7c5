// One operator on the host: made, lowered and run as PopART would, forward and, through its gradient operator,
// backward.
#pragma once

#include <popart/ir.hpp>
#include <popart/opmanager.hpp>
#include <popart/popx/opx.hpp>
#include <poplar/Engine.hpp>

#include <memory>
#include <string>
#include <vector>

namespace host {

// What to build. `mapping` says how activations (inputs of two or more dimensions) lie on the tiles; other inputs
// are created by the operator if it can, else mapped linearly.
struct Request {
  std::string domain, type;
  int version = 1;
  std::vector<popart::TensorInfo> inputs;
  popart::Attributes attributes;
  unsigned tiles = 4;
  std::string mapping = "linear", gradientMapping = "linear";
  std::vector<int> unused; // outputs that nothing depends on: they have no gradient
  bool judge = true;
  popart::SessionOptions options;
  int64_t number = 100; // of the operator in its model: few are the first
};

// A lowered operator with its engine.
struct Lowered {
  std::unique_ptr<popart::Op> op;
  std::unique_ptr<popart::popx::Devicex> device;
  std::unique_ptr<popart::popx::Opx> opx;
  std::unique_ptr<poplar::Engine> engine;

  std::vector<poplar::Tensor> outputs() const;
  // inputs: by index, null where unconnected; outputs in order.
  void run(const std::vector<const void *> &inputs, const std::vector<void *> &outputs);
};

std::shared_ptr<popart::popx::IrLowering> makeLowering(unsigned tiles);

class Session {
public:
  explicit Session(const Request &request);
  // In a graph that other operators share: built only, not to be run.
  Session(const Request &request, std::shared_ptr<popart::popx::IrLowering> lowering);

  Lowered forward;
  Lowered backward; // op is null if the operator has no gradient
  // JSON: outputs (type, shape), attributes, the gradient operator's inputs (kind, index) and outputs.
  std::string description() const;
  // JSON: bytes and estimated cycles of the forward and the backward program.
  std::string report() const;
  // How many slices the lowerings took of tensors: what they cost to build.
  std::size_t slices = 0;

private:
  popart::Ir ir_;
  popart::Graph graph_;
  std::shared_ptr<popart::popx::IrLowering> shared_;
  std::unique_ptr<popart::popx::Devicex> makeDevice(const Request &request) const;
  void buildForward(const Request &request);
  void buildBackward(const Request &request);
};

} // namespace host
