#include "passes.hpp"

#include "cycles.hpp"
#include "steps.hpp"

#include <poplar/ArrayRef.hpp>
#include <poplar/Target.hpp>

#include <algorithm>
#include <utility>

namespace proxy_norm {
namespace {

bool half(const poplar::Type &type) { return type == poplar::HALF; }

std::uint64_t sweepCycles(const TileRun &run, const cycles::Cost &cost, const poplar::Type &type) {
  return cycles::sweep(run, cost, half(type));
}

poplar::Tensor addNumbers(const Site &site, const std::vector<unsigned short> &numbers, unsigned tile,
                          const char *name) {
  const poplar::Tensor constant =
      site.graph.addConstant<unsigned short>(poplar::UNSIGNED_SHORT, {numbers.size()},
                                             poplar::ArrayRef<unsigned short>(numbers), site.name(name));
  site.graph.setTileMapping(constant, tile);
  return constant;
}

// What each worker of a tile leaves: [workers, rows * values]. The CPU target too runs a MultiVertex six times,
// though it may have one worker context: PopLibs' vertices count on six there.
poplar::Tensor addPartials(const Site &site, const TileRun &run, std::size_t rows, std::size_t values,
                           const char *name) {
  const std::size_t workers = cycles::kWorkers;
  const poplar::Tensor partials = site.graph.addVariable(poplar::FLOAT, {workers, rows * values}, site.name(name));
  site.graph.setTileMapping(partials, run.tile);
  return partials;
}

// Rows in blocks of whole words for each worker, spread over the tiles from the operator's first one on.
std::vector<ChannelBlock> rowBlocks(const Site &site, std::size_t rows) {
  const std::size_t tiles = site.graph.getTarget().getNumTiles();
  const std::size_t least = 4 * site.graph.getTarget().getNumWorkerContexts();
  const std::size_t perTile = std::max(least, ((rows + tiles - 1) / tiles + 3) / 4 * 4);
  const std::size_t count = (rows + perTile - 1) / perTile;
  std::vector<ChannelBlock> blocks;
  for (std::size_t b = 0; b < count; ++b)
    blocks.push_back({unsigned((site.start + b * tiles / count) % tiles), b * perTile,
                      std::min(rows, (b + 1) * perTile)});
  return blocks;
}

Coefficients addCoefficients(const Site &site, poplar::ComputeSet set, const std::string &name,
                             const std::vector<std::pair<const char *, poplar::Tensor>> &inputs,
                             const std::vector<const char *> &outputs, const poplar::Type &type, std::size_t rows) {
  Coefficients out;
  for (const char *output : outputs)
    out[output] = site.graph.addVariable(type, {rows}, site.name(output));
  for (const ChannelBlock &block : rowBlocks(site, rows)) {
    const poplar::VertexRef vertex = site.graph.addVertex(set, name);
    for (const auto &input : inputs)
      site.graph.connect(vertex[input.first], input.second.slice(block.begin, block.end));
    for (const auto &output : out) {
      const poplar::Tensor part = output.second.slice(block.begin, block.end);
      site.graph.setTileMapping(part, block.tile);
      site.graph.connect(vertex[output.first], part);
    }
    site.graph.setInitialValue(vertex["rows"], unsigned(block.end - block.begin));
    site.graph.setTileMapping(vertex, block.tile);
    site.graph.setPerfEstimate(vertex, cycles::coefficients(block.end - block.begin));
  }
  return out;
}

} // namespace

Activations::Activations(const Site &site, const poplar::Tensor &x, unsigned groups) : shape(x, groups), x(x) {
  blocks_ = channelGroups(site.graph, x, shape);
  order_ = inMemoryOrder(x, shape, blocks_);
  runs_ = tileRuns(site.graph, x, shape, blocks_);
  for (const TileRun &run : runs_)
    pieces_.push_back(addNumbers(site, run.pieces, run.tile, "pieces"));
}

poplar::Tensor Activations::ordered(const Site &site, const poplar::Tensor &other) const {
  if (channelGroups(site.graph, other, shape) == blocks_)
    return inMemoryOrder(other, shape, blocks_);
  poplar::Tensor order;
  const poplar::Tensor copy = cloned(site, "inLayoutOfActivations", order);
  site.program.add(poplar::program::Copy(other, copy, false, site.name("toLayoutOfActivations")));
  return order;
}

poplar::Tensor Activations::cloned(const Site &site, const char *name, poplar::Tensor &order) const {
  const poplar::Tensor clone = site.graph.clone(x, site.name(name));
  order = inMemoryOrder(clone, shape, blocks_);
  return clone;
}

poplar::VertexRef Activations::add(const Site &site, poplar::ComputeSet set, const std::string &name,
                                   std::size_t run) const {
  const poplar::VertexRef vertex = site.graph.addVertex(set, name);
  site.graph.setTileMapping(vertex, runs_[run].tile);
  site.graph.connect(vertex["x"], rowsOf(order_, runs_[run].elements));
  site.graph.connect(vertex["pieces"], pieces_[run]);
  site.graph.setInitialValue(vertex["length"], unsigned(runs_[run].length));
  site.graph.setInitialValue(vertex["pieceCount"], unsigned(runs_[run].pieces.size() / TileRun::kNumbers));
  return vertex;
}

void Activations::connectElements(const Site &site, poplar::VertexRef vertex, const char *field,
                                  const poplar::Tensor &order, std::size_t run) const {
  site.graph.connect(vertex[field], rowsOf(order, runs_[run].elements));
}

void Activations::connectRows(const Site &site, poplar::VertexRef vertex, const char *field,
                              const poplar::Tensor &rows, std::size_t run) const {
  site.graph.connect(vertex[field], rowsOf(rows, runs_[run].rows));
}

void Activations::connectPlaces(const Site &site, poplar::VertexRef vertex, bool channels, std::size_t run) const {
  const TileRun &at = runs_[run];
  site.graph.connect(vertex["groupOfRow"], addNumbers(site, at.groupOfRow, at.tile, "groupOfRow"));
  if (channels)
    site.graph.connect(vertex["channelOfRow"], addNumbers(site, at.channelOfRow, at.tile, "channelOfRow"));
}

poplar::Tensor channelRows(const Shape &shape, const poplar::Tensor &byChannel) {
  const poplar::Tensor flat = byChannel.flatten();
  return shape.norm ? flat.reshape({1, shape.channels}).broadcast(unsigned(shape.instances), 0).flatten() : flat;
}

poplar::Tensor groupRows(const Shape &shape, const poplar::Tensor &byGroup) {
  const std::size_t rows = shape.allRows(), groups = shape.allGroups();
  return byGroup.flatten().reshape({groups, 1}).broadcast(unsigned(rows / groups), 1).flatten();
}

poplar::Tensor groupSamples(const Shape &shape, const poplar::Tensor &x) {
  const std::size_t ofGroup = shape.perGroup * shape.spatial;
  const std::size_t count = std::min<std::size_t>(4, ofGroup);
  const poplar::Tensor groups = x.flatten().reshape({shape.allGroups(), ofGroup});
  std::vector<poplar::Tensor> samples;
  for (std::size_t i = 0; i < count; ++i) { // spread over the group
    const std::size_t at = i * ofGroup / count;
    samples.push_back(groups.slice(at, at + 1, 1));
  }
  return poplar::concat(samples, 1);
}

std::vector<Part> addGroupSums(const Site &site, poplar::ComputeSet set, const Activations &activations,
                               const poplar::Tensor &samples) {
  std::vector<Part> parts;
  const poplar::Type type = activations.x.elementType();
  for (std::size_t i = 0; i < activations.runs().size(); ++i) {
    const TileRun &run = activations.runs()[i];
    const poplar::VertexRef vertex = activations.add(site, set, vertexName("GroupSums", {type}), i);
    const poplar::Tensor partials = addPartials(site, run, run.groupCount, 2, "groupPartials");
    activations.connectPlaces(site, vertex, false, i);
    site.graph.connect(vertex["samples"], rowsOf(samples, run.groups));
    site.graph.connect(vertex["partials"], partials.flatten());
    site.graph.setInitialValue(vertex["groups"], unsigned(run.groupCount));
    site.graph.setInitialValue(vertex["sampleCount"], unsigned(samples.dim(1)));
    site.graph.setPerfEstimate(vertex, sweepCycles(run, cycles::groupSums(half(type)), type));
    parts.push_back({run.tile, run.groups, partials});
  }
  return parts;
}

GroupStatistics addFinishStatistics(const Site &site, poplar::ComputeSet set, const std::vector<RowSum> &sums,
                                    const poplar::Tensor &samples, const Shape &shape,
                                    const ProxySettings &settings) {
  poplar::Graph &graph = site.graph;
  const GroupStatistics out = {graph.addVariable(poplar::FLOAT, {shape.allGroups()}, site.name("groupMean")),
                               graph.addVariable(poplar::FLOAT, {shape.allGroups()}, site.name("groupInverse"))};
  for (const RowSum &sum : sums) {
    const poplar::VertexRef vertex = graph.addVertex(set, vertexName("FinishStatistics", {samples.elementType()}));
    const auto rows = [&](const poplar::Tensor &tensor) {
      return tensor.slice(sum.firstRow, sum.firstRow + sum.rows);
    };
    graph.connect(vertex["partials"], sum.parts);
    graph.connect(vertex["samples"], rows(samples).flatten());
    graph.connect(vertex["mean"], rows(out.mean));
    graph.connect(vertex["inverse"], rows(out.inverse));
    graph.setTileMapping(rows(out.mean), sum.tile);
    graph.setTileMapping(rows(out.inverse), sum.tile);
    graph.setInitialValue(vertex["rows"], unsigned(sum.rows));
    graph.setInitialValue(vertex["parts"], unsigned(sum.count));
    graph.setInitialValue(vertex["sampleCount"], unsigned(samples.dim(1)));
    graph.setInitialValue(vertex["share"], 1.0f / float(shape.perGroup * shape.spatial));
    graph.setInitialValue(vertex["eps"], settings.normEps);
    graph.setTileMapping(vertex, sum.tile);
    graph.setPerfEstimate(vertex, cycles::sums(sum.rows, sum.count, 2, 60));
  }
  return out;
}

Coefficients addForwardCoefficients(const Site &site, poplar::ComputeSet set, const Activations &activations,
                                    const GroupStatistics &groups, const poplar::Tensor &beta,
                                    const poplar::Tensor &gamma, const Statistics &statistics,
                                    const ProxySettings &settings) {
  const Shape &shape = activations.shape;
  const poplar::Type type = activations.x.elementType();
  std::vector<const char *> outputs = {"shift", "slope", "offset", "lift"};
  if (settings.silu)
    outputs.push_back("scale");
  return addCoefficients(
      site, set, vertexName(settings.silu ? "SiluCoefficients" : "ReluCoefficients", {type, beta.elementType()}),
      {{"groupMean", groupRows(shape, groups.mean)},
       {"groupInverse", groupRows(shape, groups.inverse)},
       {"mean", channelRows(shape, statistics.mean)},
       {"inverse", channelRows(shape, statistics.inverse)},
       {"beta", channelRows(shape, beta)},
       {"gamma", channelRows(shape, gamma)}},
      outputs, type, shape.allRows());
}

Coefficients addBackwardCoefficients(const Site &site, poplar::ComputeSet set, const Activations &activations,
                                     const GroupStatistics &groups, const poplar::Tensor &beta,
                                     const poplar::Tensor &gamma, const Statistics &statistics,
                                     const ProxySettings &settings) {
  const Shape &shape = activations.shape;
  const poplar::Type type = activations.x.elementType();
  return addCoefficients(site, set,
                         vertexName("BackwardCoefficients", {type, beta.elementType()}, settings.silu),
                         {{"groupMean", groupRows(shape, groups.mean)},
                          {"groupInverse", groupRows(shape, groups.inverse)},
                          {"inverse", channelRows(shape, statistics.inverse)},
                          {"beta", channelRows(shape, beta)},
                          {"gamma", channelRows(shape, gamma)}},
                         {"shift", "scale", "bend", "turn", "direct"}, type, shape.allRows());
}

poplar::Tensor addForward(const Site &site, poplar::ComputeSet set, const Activations &activations,
                          const Coefficients &coefficients, const ProxySettings &settings) {
  const poplar::Type type = activations.x.elementType();
  poplar::Tensor order;
  const poplar::Tensor y = activations.cloned(site, "y", order);
  const std::string name = vertexName(settings.silu ? "SiluForward" : "ReluForward", {type});
  for (std::size_t i = 0; i < activations.runs().size(); ++i) {
    const poplar::VertexRef vertex = activations.add(site, set, name, i);
    for (const auto &coefficient : coefficients)
      activations.connectRows(site, vertex, coefficient.first.c_str(), coefficient.second, i);
    activations.connectElements(site, vertex, "out", order, i);
    if (!settings.silu)
      site.graph.setInitialValue(vertex["checked"], unsigned(!activations.shape.norm));
    site.graph.setPerfEstimate(
        vertex, sweepCycles(activations.runs()[i], cycles::forward(half(type), settings.silu), type));
  }
  return y;
}

BackwardParts addBackwardSums(const Site &site, poplar::ComputeSet set, const Activations &activations,
                              const poplar::Tensor &grad, const Coefficients &coefficients,
                              const GroupStatistics &groups, const ProxySettings &settings) {
  const poplar::Type type = activations.x.elementType();
  const std::string name = vertexName("BackwardSums", {type}, settings.silu);
  BackwardParts parts;
  parts.gradX = activations.cloned(site, "gradX", parts.order);
  for (std::size_t i = 0; i < activations.runs().size(); ++i) {
    const TileRun &run = activations.runs()[i];
    const poplar::VertexRef vertex = activations.add(site, set, name, i);
    const poplar::Tensor byChannel = addPartials(site, run, run.channelCount, 4, "channelPartials");
    const poplar::Tensor byGroup = addPartials(site, run, run.groupCount, 2, "groupPartials");
    activations.connectElements(site, vertex, "grad", grad, i);
    activations.connectElements(site, vertex, "gradX", parts.order, i);
    for (const auto &coefficient : coefficients)
      activations.connectRows(site, vertex, coefficient.first.c_str(), coefficient.second, i);
    activations.connectPlaces(site, vertex, true, i);
    site.graph.connect(vertex["groupMean"], rowsOf(groups.mean.flatten(), run.groups));
    site.graph.connect(vertex["groupInverse"], rowsOf(groups.inverse.flatten(), run.groups));
    site.graph.connect(vertex["channelPartials"], byChannel.flatten());
    site.graph.connect(vertex["groupPartials"], byGroup.flatten());
    site.graph.setInitialValue(vertex["groups"], unsigned(run.groupCount));
    site.graph.setInitialValue(vertex["channels"], unsigned(run.channelCount));
    site.graph.setPerfEstimate(vertex, sweepCycles(run, cycles::backwardSums(half(type), settings.silu), type));
    parts.byChannel.push_back({run.tile, run.channels, byChannel});
    parts.byGroup.push_back({run.tile, run.groups, byGroup});
  }
  return parts;
}

GroupTerms addFinishGroups(const Site &site, poplar::ComputeSet set, const std::vector<RowSum> &sums,
                           const GroupStatistics &groups, const Activations &activations) {
  poplar::Graph &graph = site.graph;
  const Shape &shape = activations.shape;
  const poplar::Type type = activations.x.elementType();
  const GroupTerms out = {graph.addVariable(type, {shape.allGroups()}, site.name("byU")),
                          graph.addVariable(type, {shape.allGroups()}, site.name("constant"))};
  for (const RowSum &sum : sums) {
    const poplar::VertexRef vertex = graph.addVertex(set, vertexName("FinishGroups", {type}));
    const auto rows = [&](const poplar::Tensor &tensor) {
      return tensor.flatten().slice(sum.firstRow, sum.firstRow + sum.rows);
    };
    graph.connect(vertex["partials"], sum.parts);
    graph.connect(vertex["groupMean"], rows(groups.mean));
    graph.connect(vertex["groupInverse"], rows(groups.inverse));
    graph.connect(vertex["byU"], rows(out.byU));
    graph.connect(vertex["constant"], rows(out.constant));
    graph.setTileMapping(rows(out.byU), sum.tile);
    graph.setTileMapping(rows(out.constant), sum.tile);
    graph.setInitialValue(vertex["rows"], unsigned(sum.rows));
    graph.setInitialValue(vertex["parts"], unsigned(sum.count));
    graph.setInitialValue(vertex["share"], 1.0f / float(shape.perGroup * shape.spatial));
    graph.setTileMapping(vertex, sum.tile);
    graph.setPerfEstimate(vertex, cycles::sums((sum.rows + 1) / 2, sum.count, 4, 20));
  }
  return out;
}

void addBackwardInput(const Site &site, poplar::ComputeSet set, const Activations &activations,
                      const BackwardParts &parts, const Coefficients &coefficients, const GroupTerms &terms,
                      const ProxySettings &settings) {
  const poplar::Type type = activations.x.elementType();
  const poplar::Tensor byU = groupRows(activations.shape, terms.byU);
  const poplar::Tensor constant = groupRows(activations.shape, terms.constant);
  const std::string name = vertexName("BackwardInput", {type}, settings.silu);
  for (std::size_t i = 0; i < activations.runs().size(); ++i) {
    const poplar::VertexRef vertex = activations.add(site, set, name, i);
    for (const char *field : {"shift", "scale", "turn", "direct"})
      activations.connectRows(site, vertex, field, coefficients.at(field), i);
    activations.connectRows(site, vertex, "byU", byU, i);
    activations.connectRows(site, vertex, "constant", constant, i);
    activations.connectElements(site, vertex, "gradX", parts.order, i);
    site.graph.setPerfEstimate(vertex, sweepCycles(activations.runs()[i], cycles::backwardInput(), type));
  }
}

ChannelGradients addFinishChannels(const Site &site, poplar::ComputeSet set, const std::vector<RowSum> &sums,
                                   const poplar::Tensor &beta, const poplar::Tensor &gamma,
                                   const Statistics &statistics, const poplar::Type &type,
                                   const ProxySettings &settings) {
  poplar::Graph &graph = site.graph;
  const std::size_t channels = statistics.mean.dim(0);
  const ChannelGradients out = {graph.addVariable(type, {channels}, site.name("gradBeta")),
                                graph.addVariable(type, {channels}, site.name("gradGamma")),
                                {graph.addVariable(poplar::FLOAT, {channels}, site.name("gradMean")),
                                 graph.addVariable(poplar::FLOAT, {channels}, site.name("gradInverse"))}};
  for (const RowSum &sum : sums) {
    const poplar::VertexRef vertex =
        graph.addVertex(set, vertexName("FinishChannels", {beta.elementType(), type}));
    const auto rows = [&](const poplar::Tensor &tensor) {
      return tensor.slice(sum.firstRow, sum.firstRow + sum.rows);
    };
    graph.connect(vertex["partials"], sum.parts);
    graph.connect(vertex["beta"], rows(beta));
    graph.connect(vertex["gamma"], rows(gamma));
    graph.connect(vertex["mean"], rows(statistics.mean));
    graph.connect(vertex["inverse"], rows(statistics.inverse));
    const std::pair<const char *, poplar::Tensor> outputs[] = {{"gradBeta", out.beta},
                                                               {"gradGamma", out.gamma},
                                                               {"gradMean", out.statistics.mean},
                                                               {"gradInverse", out.statistics.inverse}};
    for (const auto &output : outputs) {
      graph.connect(vertex[output.first], rows(output.second));
      graph.setTileMapping(rows(output.second), sum.tile);
    }
    graph.setInitialValue(vertex["rows"], unsigned(sum.rows));
    graph.setInitialValue(vertex["parts"], unsigned(sum.count));
    graph.setInitialValue(vertex["silu"], unsigned(settings.silu));
    graph.setTileMapping(vertex, sum.tile);
    graph.setPerfEstimate(vertex, cycles::sums((sum.rows + 1) / 2, sum.count, 8, 20));
  }
  return out;
}

void forget(const Site &site, const std::vector<Part> &parts) {
  for (const Part &part : parts)
    site.program.add(poplar::program::WriteUndef(part.partials, site.name("forget")));
}

} // namespace proxy_norm
