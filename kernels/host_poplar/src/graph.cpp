#include "vertex_type.hpp"

#include <poplar/Graph.hpp>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <functional>
#include <numeric>

namespace poplar {
namespace host {
namespace {
std::map<std::string, VertexType> &registry() {
  static std::map<std::string, VertexType> types;
  return types;
}
} // namespace

const VertexType *findVertexType(const std::string &name) {
  const auto found = registry().find(name);
  return found == registry().end() ? nullptr : &found->second;
}

void addVertexType(VertexType type) { registry()[type.name] = std::move(type); }

const Field *VertexType::find(const std::string &name) const {
  for (const Field &field : fields)
    if (field.name == name)
      return &field;
  return nullptr;
}

} // namespace host

Graph::Graph(const Target &target)
    : contents_(std::make_shared<host::GraphContents>(host::GraphContents{target, {}, {}, {}, {}})) {}

bool Graph::addCodelets(StringRef path, CodeletFileType, StringRef, StringRef) {
  const std::string name = path;
  if (!std::ifstream(name).good())
    throw poplar_error("addCodelets: cannot read '" + name + "'");
  const std::string file = name.substr(name.find_last_of('/') + 1);
  auto &files = contents_->codeletFiles;
  if (std::find(files.begin(), files.end(), file) != files.end())
    return false;
  files.push_back(file);
  return true;
}

bool Graph::hasCodelet(StringRef vertexName) const {
  const host::VertexType *type = host::findVertexType(vertexName);
  const auto &files = contents_->codeletFiles;
  return type && std::find(files.begin(), files.end(), type->codeletFile) != files.end();
}

std::uint32_t Graph::addHostVariable(host::Variable variable) {
  contents_->variables.push_back(std::move(variable));
  return std::uint32_t(contents_->variables.size() - 1);
}

Tensor Graph::wholeVariable(std::uint32_t id, ArrayRef<std::size_t> shape) const {
  const host::Variable &variable = contents_->variables[id];
  host::Elements elements(variable.tiles.size());
  for (std::uint32_t i = 0; i < elements.size(); ++i)
    elements[i] = {id, i};
  return {variable.type, std::vector<std::size_t>(shape.begin(), shape.end()), std::move(elements)};
}

Tensor Graph::addVariable(const Type &type, ArrayRef<std::size_t> shape, const DebugContext &debugContext) {
  const std::size_t size =
      std::accumulate(shape.begin(), shape.end(), std::size_t(1), std::multiplies<std::size_t>());
  host::Variable variable{type, debugContext.getPathName(), std::vector<std::int32_t>(size, -1), false, false, {}};
  return wholeVariable(addHostVariable(std::move(variable)), shape);
}

Tensor Graph::hostConstant(const Type &type, ArrayRef<std::size_t> shape, const std::vector<double> &values,
                           const DebugContext &debugContext) {
  const Tensor tensor = addVariable(type, shape, debugContext);
  const std::size_t size = tensor.numElements();
  if (values.size() != size && values.size() != 1)
    throw poplar_error("addConstant: " + std::to_string(values.size()) + " values for " + std::to_string(size) +
                       " elements");
  host::Variable &variable = contents_->variables.back();
  variable.constant = variable.readOnly = true;
  variable.initial.resize(size * type.hostBytes());
  const auto put = [&](auto zero) {
    for (std::size_t i = 0; i < size; ++i) {
      const auto value = static_cast<decltype(zero)>(values[values.size() == 1 ? 0 : i]);
      std::memcpy(variable.initial.data() + i * sizeof value, &value, sizeof value);
    }
  };
  if (type == FLOAT)
    put(0.0f);
  else if (type == HALF)
    put(half(0.0f));
  else if (type == UNSIGNED_SHORT)
    put(static_cast<unsigned short>(0));
  else if (type == UNSIGNED_INT)
    put(0u);
  else if (type == INT)
    put(0);
  else
    throw poplar_error("addConstant: no constants of type " + type.toString());
  return tensor;
}

Tensor Graph::clone(const Type &type, const Tensor &tensor, const DebugContext &debugContext, TensorCloneMethod) {
  // New elements in the memory order of the old ones, on their tiles.
  const host::Elements &old = tensor.hostElements();
  std::vector<std::uint32_t> order(old.size()), rank(old.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) { return old[a] < old[b]; });
  host::Variable variable{type, debugContext.getPathName(), std::vector<std::int32_t>(old.size()), false, false,
                          {}};
  host::Elements elements(old.size());
  for (std::uint32_t offset = 0; offset < order.size(); ++offset)
    variable.tiles[offset] = contents_->variables[old[order[offset]].variable].tiles[old[order[offset]].offset];
  const std::uint32_t id = addHostVariable(std::move(variable));
  for (std::uint32_t offset = 0; offset < order.size(); ++offset)
    elements[order[offset]] = {id, offset};
  return {type, tensor.shape(), std::move(elements)};
}

void Graph::setTileMapping(const Tensor &tensor, unsigned tile) {
  const std::size_t size = tensor.numElements();
  TileToTensorMapping mapping(tile + 1);
  mapping[tile].emplace_back(0, size);
  setTileMapping(tensor, mapping);
}

void Graph::setTileMapping(const Tensor &tensor, const TileToTensorMapping &mapping) {
  if (mapping.size() > getTarget().getNumTiles())
    throw poplar_error("setTileMapping: tile " + std::to_string(mapping.size() - 1) + " of " +
                       std::to_string(getTarget().getNumTiles()) + " tiles");
  const host::Elements &elements = tensor.hostElements();
  for (std::size_t tile = 0; tile < mapping.size(); ++tile)
    for (const Interval &interval : mapping[tile])
      for (std::size_t i = interval.begin(); i < interval.end(); ++i)
        contents_->variables[elements.at(i).variable].tiles[elements[i].offset] = std::int32_t(tile);
}

void Graph::setTileMapping(VertexRef vertex, unsigned tile) {
  if (tile >= getTarget().getNumTiles())
    throw poplar_error("setTileMapping: a vertex on tile " + std::to_string(tile));
  contents_->vertices.at(vertex.getId()).tile = std::int32_t(tile);
}

Graph::TileToTensorMapping Graph::getTileMapping(const Tensor &tensor, bool requireComplete) const {
  TileToTensorMapping mapping(getTarget().getNumTiles());
  const host::Elements &elements = tensor.hostElements();
  for (std::size_t begin = 0; begin < elements.size();) {
    const auto tileOf = [&](std::size_t i) {
      return contents_->variables[elements[i].variable].tiles[elements[i].offset];
    };
    const std::int32_t tile = tileOf(begin);
    std::size_t end = begin + 1;
    while (end < elements.size() && tileOf(end) == tile)
      ++end;
    if (tile >= 0)
      mapping[tile].emplace_back(begin, end);
    else if (requireComplete)
      throw poplar_error("getTileMapping: '" + contents_->variables[elements[begin].variable].name +
                         "' is not mapped to tiles");
    begin = end;
  }
  return mapping;
}

std::vector<std::vector<Interval>> Graph::getSortedContiguousRegions(const Tensor &tensor,
                                                                     ArrayRef<Interval> regions) const {
  const host::Elements &elements = tensor.hostElements();
  std::vector<std::size_t> order;
  for (const Interval &region : regions)
    for (std::size_t i = region.begin(); i < region.end(); ++i)
      order.push_back(i);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return elements[a] < elements[b]; });
  std::vector<std::vector<Interval>> out;
  for (std::size_t k = 0; k < order.size(); ++k) {
    const host::Element &at = elements[order[k]];
    const bool continues =
        k > 0 && elements[order[k - 1]].variable == at.variable && elements[order[k - 1]].offset + 1 == at.offset;
    if (!continues)
      out.emplace_back();
    auto &run = out.back();
    if (continues && run.back().end() == order[k])
      run.back() = Interval(run.back().begin(), order[k] + 1);
    else
      run.emplace_back(order[k], order[k] + 1);
  }
  return out;
}

ComputeSet Graph::addComputeSet(const DebugContext &debugContext) {
  contents_->computeSets.push_back(debugContext.getPathName());
  return ComputeSet(std::uint32_t(contents_->computeSets.size() - 1));
}

VertexRef Graph::addVertex(ComputeSet set, StringRef vertexName) {
  const std::string name = vertexName;
  if (!hasCodelet(name))
    throw poplar_error("addVertex: there is no codelet '" + name + "'");
  host::VertexInstance vertex;
  vertex.type = host::findVertexType(name);
  vertex.computeSet = set.getId();
  contents_->vertices.push_back(std::move(vertex));
  return VertexRef(std::uint32_t(contents_->vertices.size() - 1));
}

VertexRef Graph::addVertex(ComputeSet set, StringRef vertexName, ArrayRef<ConnectionDesc> connections) {
  const VertexRef vertex = addVertex(set, vertexName);
  for (const ConnectionDesc &connection : connections)
    connect(vertex[connection.field], connection.tensor);
  return vertex;
}

void Graph::connect(FieldRef field, const Tensor &tensor) {
  host::VertexInstance &vertex = contents_->vertices.at(field.hostVertex());
  const std::string where = "connect: field '" + field.hostName() + "' of " + vertex.type->name;
  const host::Field *known = vertex.type->find(field.hostName());
  if (!known || known->kind == host::FieldKind::State)
    throw poplar_error(where + " does not exist or is no edge");
  if (known->type != tensor.elementType())
    throw poplar_error(where + " is of type " + known->type.toString() + ", the tensor of " +
                       tensor.elementType().toString());
  if (known->kind != host::FieldKind::Input) {
    if (tensor.containsAliases())
      throw poplar_error(where + " would write one element twice");
    for (const host::Element &element : tensor.hostElements())
      if (contents_->variables[element.variable].readOnly)
        throw poplar_error(where + " would write '" + contents_->variables[element.variable].name +
                           "', which is read only");
  }
  vertex.edges[field.hostName()] = tensor;
}

void Graph::hostState(const FieldRef &field, double value) {
  host::VertexInstance &vertex = contents_->vertices.at(field.hostVertex());
  const host::Field *known = vertex.type->find(field.hostName());
  if (!known || known->kind != host::FieldKind::State)
    throw poplar_error("setInitialValue: field '" + field.hostName() + "' of " + vertex.type->name +
                       " does not exist or is an edge");
  vertex.state[field.hostName()] = value;
}

void Graph::setPerfEstimate(const VertexRef &vertex, std::uint64_t cycles, std::uint64_t) {
  contents_->vertices.at(vertex.getId()).cycles = cycles;
}

void Graph::hostSetReadOnly(const Tensor &tensor) {
  for (const host::Element &element : tensor.hostElements())
    contents_->variables[element.variable].readOnly = true;
}

} // namespace poplar
