// PopART's registries.
#include <popart/opmanager.hpp>
#include <popart/popx/opxmanager.hpp>
#include <popart/shapeinference.hpp>

namespace popart {
namespace {

template <typename T> using ById = std::map<OperatorIdentifier, T, OperatorIdentifierLess>;

// Functions, so that registrations from any file find them ready.
ById<OpManager::OpInfo> &operators() {
  static ById<OpManager::OpInfo> all;
  return all;
}
ById<popx::OpxManager::OpxFactoryFunc> &lowerings() {
  static ById<popx::OpxManager::OpxFactoryFunc> all;
  return all;
}
ById<ShapeInferenceFunction> &shapeFunctions() {
  static ById<ShapeInferenceFunction> all;
  return all;
}

} // namespace

void OpManager::registerOp(const OpInfo &info) { operators().emplace(info.id, info); }

const OpManager::OpInfo *OpManager::hostFind(const std::string &domain, const std::string &type, int version) {
  const auto found = operators().find(OperatorIdentifier(domain, type, version));
  return found == operators().end() ? nullptr : &found->second;
}

RegisterShapeInferenceFunction::RegisterShapeInferenceFunction(const OperatorIdentifier &opid,
                                                               ShapeInferenceFunction function) {
  shapeFunctions().emplace(opid, std::move(function));
}

const ShapeInferenceFunction *hostShapeInference(const OperatorIdentifier &opid) {
  const auto found = shapeFunctions().find(opid);
  return found == shapeFunctions().end() ? nullptr : &found->second;
}

namespace popx {

void OpxManager::registerOpx(const OperatorIdentifier &opid, OpxFactoryFunc factory) {
  lowerings().emplace(opid, std::move(factory));
}

std::unique_ptr<Opx> OpxManager::createOpx(Op *op, Devicex *devicex) {
  const auto found = lowerings().find(op->opid);
  if (found == lowerings().end())
    throw error("no lowering is registered for {}.{}", op->opid.domain, op->opid.type);
  return found->second(op, devicex);
}

} // namespace popx
} // namespace popart
