#include "session.hpp"

#include "mapping.hpp"

#include <popart/opserialiser.hpp>
#include <popart/popx/opxmanager.hpp>
#include <popart/shapeinference.hpp>

#include <algorithm>
#include <set>
#include <sstream>

namespace host {
namespace {

using popart::GradOpInType;

poplar::Type typeOf(const popart::TensorInfo &info) {
  switch (info.dataType()) {
  case popart::DataType::FLOAT16:
    return poplar::HALF;
  case popart::DataType::FLOAT:
    return poplar::FLOAT;
  default:
    return poplar::INT;
  }
}

std::vector<std::size_t> shapeOf(const popart::TensorInfo &info) {
  return std::vector<std::size_t>(info.shape().begin(), info.shape().end());
}

// What a definition promises of types and attributes.
void checkDefinition(const popart::OpDefinition &definition, const Request &request) {
  if (definition.inputs.size() != request.inputs.size())
    throw popart::error("{} takes {} inputs, not {}", request.type, definition.inputs.size(),
                        request.inputs.size());
  for (std::size_t i = 0; i < request.inputs.size(); ++i) {
    const auto &types = definition.inputs[i].supportedTensors;
    if (std::find(types.begin(), types.end(), request.inputs[i].dataType()) == types.end())
      throw popart::error("{}: input '{}' may not have this type", request.type, definition.inputs[i].name);
  }
  for (const std::string &name : request.attributes.getNames())
    if (definition.attributes.count(name) == 0)
      throw popart::error("{} has no attribute '{}'", request.type, name);
}

// The builder asks before all shapes are known: what is said then must be true, or nothing be said.
void checkUnknownShapes(const popart::ShapeInferenceFunction &shapes, const Lowered &lowered,
                        const Request &request) {
  const auto &inputs = lowered.op->hostInputs, &outputs = lowered.op->hostOutputs;
  for (int unknown = -1; unknown < int(inputs.size()); ++unknown) { // -1: all of them
    auto some = inputs;
    for (auto &input : some)
      if (unknown < 0 || input.first == unknown)
        input.second = popart::TensorInfo(input.second.dataType(), {});
    popart::ShapeInferenceContext context(some, request.attributes, int(outputs.size()));
    try {
      shapes(context);
    } catch (const std::exception &exception) {
      throw popart::error("{}: shape inference throws where a shape is unknown: {}", request.type,
                          exception.what());
    }
    for (const auto &output : context.getOutputInfos())
      if (!output.second.shape().empty() && output.second != outputs.at(output.first))
        throw popart::error("{}: shape inference makes a shape up where one is unknown", request.type);
  }
}

// PopART lets a session option check some of these; here they are always checked.
void checkOutputs(const Lowered &lowered) {
  std::set<std::pair<std::uint32_t, std::uint32_t>> returned;
  for (const auto &entry : lowered.op->hostOutputs) {
    const auto found = lowered.device->hostOutputs.find(entry.first);
    const std::string where = lowered.op->opid.type + ": output " + std::to_string(entry.first);
    if (found == lowered.device->hostOutputs.end())
      throw popart::error(where + " was not set by the lowering");
    const poplar::Tensor &tensor = found->second;
    if (tensor.shape() != shapeOf(entry.second) || tensor.elementType() != typeOf(entry.second))
      throw popart::error(where + " has another shape or type than setup() said");
    const auto &variables = lowered.device->hostGraph().hostContents().variables;
    for (const poplar::host::Element &element : tensor.hostElements())
      if (variables[element.variable].readOnly)
        throw popart::error(where + " aliases an input or a constant");
    for (const poplar::host::Element &element : tensor.hostElements())
      if (!returned.emplace(element.variable, element.offset).second)
        throw popart::error(where + " aliases itself or another output");
  }
}

popart::view::Region whole(const popart::TensorInfo &info) {
  return popart::view::Region(popart::Shape(info.rank(), 0), info.shape());
}

// A lowering that says it can unwind must hand a layout of its output back to its input.
void checkUnwinding(const Lowered &lowered) {
  for (const auto &input : lowered.op->hostInputs) {
    const auto creator = lowered.opx->getInputCreatorType(input.first);
    if (creator != popart::popx::InputCreatorType::CanUnwind)
      continue;
    for (const auto &output : lowered.op->hostOutputs) {
      if (!lowered.opx->canUnwind(input.first, output.first))
        continue;
      const poplar::Tensor layout = lowered.opx->unwindTensorLayout(
          lowered.device->hostOutputs.at(output.first), input.first, output.first);
      const popart::view::Regions regions =
          lowered.opx->unwindRegion(input.first, output.first)(whole(output.second));
      if (layout.shape() != shapeOf(input.second) || regions.size() != 1 || !(regions[0] == whole(input.second)))
        throw popart::error("{}: unwinding from output {} to input {} changes the shape", lowered.op->opid.type,
                            output.first, input.first);
    }
  }
}

// What a profile would show without saying whose it is.
void checkNames(const Lowered &lowered) {
  const auto &contents = lowered.device->hostGraph().hostContents();
  for (const poplar::host::Variable &variable : contents.variables)
    if (variable.name.empty())
      throw popart::error("{}: a tensor of {} elements has no debug name", lowered.op->opid.type,
                          variable.tiles.size());
  for (const std::string &name : contents.computeSets)
    if (name.empty())
      throw popart::error("{}: a compute set has no debug name", lowered.op->opid.type);
}

void lower(Lowered &lowered, bool judge, bool run) {
  for (const auto &input : lowered.device->hostInputs)
    lowered.device->hostGraph().hostSetReadOnly(input.second);
  poplar::program::Sequence program;
  lowered.opx->grow(program);
  checkNames(lowered);
  checkOutputs(lowered);
  checkUnwinding(lowered);
  if (run)
    lowered.engine = std::make_unique<poplar::Engine>(lowered.device->hostGraph(), program, judge);
}

std::string infoText(const popart::TensorInfo &info) {
  std::ostringstream out;
  out << "{\"type\":\"" << typeOf(info).toString() << "\",\"shape\":[";
  for (std::size_t i = 0; i < info.shape().size(); ++i)
    out << (i ? "," : "") << info.shape()[i];
  out << "]}";
  return out.str();
}

std::string attributesText(const popart::Op &op, bool outline) {
  popart::OpSerialiserBase serialiser;
  outline ? op.appendOutlineAttributes(serialiser) : op.appendAttributes(serialiser);
  std::string out;
  for (const auto &attribute : serialiser.hostAttributes)
    out += (out.empty() ? "\"" : ",\"") + attribute.first + "\":\"" + attribute.second + "\"";
  return "{" + out + "}";
}

} // namespace

std::vector<poplar::Tensor> Lowered::outputs() const {
  std::vector<poplar::Tensor> tensors;
  for (const auto &output : device->hostOutputs)
    tensors.push_back(output.second);
  return tensors;
}

void Lowered::run(const std::vector<const void *> &inputs, const std::vector<void *> &outputs) {
  for (const auto &input : device->hostInputs)
    engine->writeTensor(input.second, inputs.at(input.first));
  engine->run();
  for (const auto &output : device->hostOutputs)
    engine->readTensor(output.second, outputs.at(output.first));
}

std::shared_ptr<popart::popx::IrLowering> makeLowering(unsigned tiles) {
  return std::make_shared<popart::popx::IrLowering>(
      poplar::Graph(poplar::Target::createIPUTarget(1, tiles, "ipu2")));
}

std::unique_ptr<popart::popx::Devicex> Session::makeDevice(const Request &request) const {
  return std::make_unique<popart::popx::Devicex>(shared_ ? shared_ : makeLowering(request.tiles));
}

Session::Session(const Request &request) : Session(request, nullptr) {}

Session::Session(const Request &request, std::shared_ptr<popart::popx::IrLowering> lowering)
    : graph_(ir_, request.number), shared_(std::move(lowering)) {
  ir_.getSessionOptions() = request.options;
  const std::size_t before = poplar::host::slicesMade;
  buildForward(request);
  buildBackward(request);
  slices = poplar::host::slicesMade - before;
}

void Session::buildForward(const Request &request) {
  const auto *info = popart::OpManager::hostFind(request.domain, request.type, request.version);
  if (info == nullptr)
    throw popart::error("no operator {}.{} of version {} is registered", request.domain, request.type,
                        request.version);
  checkDefinition(info->details, request);
  const popart::Op::Settings settings(graph_, request.type);
  const std::unique_ptr<popart::Op> original =
      info->getSimpleFactory()({info->id, settings, request.attributes, {}, {}});
  forward.op = original->clone(); // PopART clones operators freely
  for (std::size_t i = 0; i < request.inputs.size(); ++i)
    forward.op->hostInputs[int(i)] = request.inputs[i];
  forward.op->setup();

  const popart::ShapeInferenceFunction *shapes = popart::hostShapeInference(info->id);
  if (shapes != nullptr) {
    popart::ShapeInferenceContext context(forward.op->hostInputs, request.attributes,
                                          int(info->details.outputs.size()));
    (*shapes)(context);
    if (!(context.getOutputInfos() == forward.op->hostOutputs))
      throw popart::error("{}: shape inference and setup() disagree", request.type);
    checkUnknownShapes(*shapes, forward, request);
  }

  forward.device = makeDevice(request);
  forward.opx = popart::popx::OpxManager::createOpx(forward.op.get(), forward.device.get());
  poplar::Graph &graph = forward.device->hostGraph();
  for (const auto &input : forward.op->hostInputs) {
    const std::string name = info->details.inputs[input.first].name;
    const auto creator = forward.opx->getInputCreatorType(input.first);
    if (creator == popart::popx::InputCreatorType::CanCreate) {
      forward.opx->mustExistBeforeCreate(input.first);
      forward.device->hostInputs[input.first] = forward.opx->createInputTensor(input.first, name);
    } else {
      const bool activations = input.second.rank() >= 2;
      forward.device->hostInputs[input.first] = addMapped(graph, typeOf(input.second), shapeOf(input.second),
                                                          activations ? request.mapping : "linear", name);
    }
  }
  lower(forward, request.judge, !shared_);
}

void Session::buildBackward(const Request &request) {
  std::vector<std::unique_ptr<popart::Op>> gradients = forward.op->getGradOps();
  if (gradients.empty())
    return;
  if (gradients.size() > 1)
    throw popart::error("{} has several gradient operators: this host runs one", request.type);
  backward.op = gradients[0]->clone();
  backward.device = makeDevice(request);
  poplar::Graph &graph = backward.device->hostGraph();
  for (const popart::GradInOutMapper &source : backward.op->gradInputInfo()) {
    const auto &unused = request.unused;
    if (source.type == GradOpInType::GradOut &&
        std::find(unused.begin(), unused.end(), source.iNonGrad) != unused.end()) {
      if (backward.op->optionalInputs().count(source.iGrad) == 0)
        throw popart::error("{}: input {} has no gradient to read and is not optional", backward.op->opid.type,
                            source.iGrad);
      continue; // PopART leaves the input unconnected
    }
    const std::string name = "input" + std::to_string(source.iGrad);
    const bool in = source.type == GradOpInType::In;
    const auto &infos = in ? forward.op->hostInputs : forward.op->hostOutputs;
    backward.op->hostInputs[source.iGrad] = infos.at(source.iNonGrad);
    const auto &tensors = in ? forward.device->hostInputs : forward.device->hostOutputs;
    const poplar::Tensor &tensor = tensors.at(source.iNonGrad);
    backward.device->hostInputs[source.iGrad] =
        source.type == GradOpInType::GradOut && tensor.rank() >= 2
            ? addMapped(graph, tensor.elementType(), tensor.shape(), request.gradientMapping, name)
            : import(graph, forward.device->hostGraph(), tensor, name);
  }
  backward.op->setup();
  backward.opx = popart::popx::OpxManager::createOpx(backward.op.get(), backward.device.get());
  lower(backward, request.judge, !shared_);
}

std::string Session::description() const {
  std::ostringstream out;
  out << "{\"outputs\":[";
  for (const auto &output : forward.op->hostOutputs)
    out << (output.first ? "," : "") << infoText(output.second);
  out << "],\"attributes\":" << attributesText(*forward.op, false)
      << ",\"outline_attributes\":" << attributesText(*forward.op, true);
  if (backward.op) {
    out << ",\"grad_inputs\":[";
    bool first = true;
    for (const popart::GradInOutMapper &source : backward.op->gradInputInfo()) {
      const char *kinds[] = {"in", "out", "grad_out"};
      out << (first ? "" : ",") << "[\"" << kinds[int(source.type)] << "\"," << source.iNonGrad << "]";
      first = false;
    }
    out << "],\"grad_outputs\":[";
    first = true;
    for (const auto &entry : backward.op->gradOutToNonGradIn()) {
      out << (first ? "" : ",") << "[" << entry.first << "," << entry.second << "]";
      first = false;
    }
    out << "]";
  }
  out << "}";
  return out.str();
}

std::string Session::report() const {
  std::string out = "{\"slices\":" + std::to_string(slices) + ",\"forward\":" + forward.engine->hostReport(forward.outputs());
  if (backward.op)
    out += ",\"backward\":" + backward.engine->hostReport(backward.outputs());
  return out + "}";
}

} // namespace host
