#pragma once

#include "DebugContext.hpp"
#include "Tensor.hpp"

#include <cstdint>
#include <memory>
#include <vector>

namespace poplar {

class ComputeSet {
public:
  ComputeSet() = default;
  explicit ComputeSet(std::uint32_t id) : id_(id) {}
  std::uint32_t getId() const { return id_; }

private:
  std::uint32_t id_ = 0;
};

namespace host {
struct Step {
  enum Kind { Sequence, Execute, Copy, WriteUndef } kind;
  std::vector<std::shared_ptr<Step>> steps;
  std::uint32_t computeSet = 0;
  Tensor source, target;
};
} // namespace host

namespace program {

class Program {
public:
  const std::shared_ptr<host::Step> &hostStep() const { return step_; }

protected:
  explicit Program(host::Step step) : step_(std::make_shared<host::Step>(std::move(step))) {}

private:
  std::shared_ptr<host::Step> step_;
};

class Sequence : public Program {
public:
  explicit Sequence(const DebugContext & = {}) : Program({host::Step::Sequence, {}, 0, {}, {}}) {}
  void add(const Program &program) { hostStep()->steps.push_back(program.hostStep()); }
};

class Execute : public Program {
public:
  explicit Execute(ComputeSet set, const DebugContext & = {})
      : Program({host::Step::Execute, {}, set.getId(), {}, {}}) {}
};

class Copy : public Program {
public:
  Copy(Tensor source, Tensor target, bool /*dontOutline*/ = false, const DebugContext & = {})
      : Program({host::Step::Copy, {}, 0, std::move(source), std::move(target)}) {}
};

// Says that a tensor's old contents no longer matter.
class WriteUndef : public Program {
public:
  explicit WriteUndef(Tensor target, const DebugContext & = {})
      : Program({host::Step::WriteUndef, {}, 0, {}, std::move(target)}) {}
};

} // namespace program
} // namespace poplar
