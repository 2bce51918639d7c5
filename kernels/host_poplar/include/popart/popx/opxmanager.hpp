#pragma once

#include "opx.hpp"

#include <functional>
#include <memory>

namespace popart {
namespace popx {

class OpxManager {
public:
  using OpxFactoryFunc = std::function<std::unique_ptr<Opx>(Op *, Devicex *)>;
  static void registerOpx(const OperatorIdentifier &opid, OpxFactoryFunc factory);
  static std::unique_ptr<Opx> createOpx(Op *op, Devicex *devicex);
};

template <class OPX> class OpxCreator {
public:
  OpxCreator(const OperatorIdentifier &opid) {
    OpxManager::registerOpx(opid, [](Op *op, Devicex *devicex) -> std::unique_ptr<Opx> {
      return std::unique_ptr<OPX>(new OPX(op, devicex));
    });
  }
};

} // namespace popx
} // namespace popart
