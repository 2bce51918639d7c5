#include "steps.hpp"

#include "cycles.hpp"
#include "points.hpp"

#include <poplar/ArrayRef.hpp>
#include <poplar/Target.hpp>

#include <algorithm>

namespace proxy_norm {

std::string vertexName(const std::string &name, const std::vector<poplar::Type> &types) {
  std::string out = "proxy_norm::" + name + "<";
  for (const poplar::Type &type : types)
    out += (&type == types.data() ? "" : ",") + std::string(type == poplar::HALF ? "half" : "float");
  return out + ">";
}

std::string vertexName(const std::string &name, const std::vector<poplar::Type> &types, bool silu) {
  std::string out = vertexName(name, types);
  out.back() = ',';
  return out + (silu ? "true>" : "false>");
}

poplar::Tensor constantByChannel(poplar::Graph &graph, std::size_t channels, float value,
                                 const poplar::DebugNameAndId &dnai) {
  const poplar::Tensor constant = graph.addConstant<float>(poplar::FLOAT, {channels}, value, {dnai, "constant"});
  for (const ChannelBlock &block : channelBlocks(graph, channels))
    graph.setTileMapping(constant.slice(block.begin, block.end), block.tile);
  return constant;
}

namespace {

poplar::Tensor constantOn(poplar::Graph &graph, unsigned tile, const std::vector<float> &values,
                          const poplar::DebugNameAndId &dnai) {
  const poplar::Tensor table =
      graph.addConstant<float>(poplar::FLOAT, {values.size()}, poplar::ArrayRef<float>(values), {dnai, "points"});
  graph.setTileMapping(table, tile);
  return table;
}

void connectBlock(poplar::Graph &graph, poplar::VertexRef vertex, const char *field, const poplar::Tensor &tensor,
                  const ChannelBlock &block) {
  graph.connect(vertex[field], tensor.slice(block.begin, block.end).flatten());
}

void connectParameters(poplar::Graph &graph, poplar::VertexRef vertex, const Parameters &parameters,
                       const ChannelBlock &block) {
  connectBlock(graph, vertex, "beta", parameters.beta, block);
  connectBlock(graph, vertex, "gamma", parameters.gamma, block);
  connectBlock(graph, vertex, "proxyBeta", parameters.proxyBeta, block);
  connectBlock(graph, vertex, "proxyGamma", parameters.proxyGamma, block);
}

Statistics addStatistics(poplar::Graph &graph, std::size_t channels, const poplar::DebugNameAndId &dnai) {
  return {addByChannel(graph, poplar::FLOAT, {channels}, {dnai, "proxyMean"}),
          addByChannel(graph, poplar::FLOAT, {channels}, {dnai, "proxyInverse"})};
}

void connectStatistics(poplar::Graph &graph, poplar::VertexRef vertex, const Statistics &statistics,
                       const ChannelBlock &block, const ProxySettings &settings) {
  connectBlock(graph, vertex, "mean", statistics.mean, block);
  connectBlock(graph, vertex, "inverse", statistics.inverse, block);
  graph.setInitialValue(vertex["eps"], settings.eps);
}

void addReluVertex(poplar::Graph &graph, poplar::VertexRef vertex, const Parameters &parameters,
                   const ChannelBlock &block, const ProxySettings &settings, const poplar::DebugNameAndId &dnai) {
  const std::vector<float> table =
      settings.quantiles ? reluTable(settings.quantiles) : std::vector<float>(1, 0.0f);
  connectParameters(graph, vertex, parameters, block);
  graph.connect(vertex["table"], constantOn(graph, block.tile, table, dnai));
  graph.setInitialValue(vertex["rows"], unsigned(block.end - block.begin));
  graph.setInitialValue(vertex["points"], settings.quantiles);
  graph.setTileMapping(vertex, block.tile);
  graph.setPerfEstimate(vertex, cycles::reluProxy(block.end - block.begin, settings.quantiles));
}

// How many channels a tile serves with SiLU's sums, and in how many slices each: one item for a worker.
struct Slicing {
  Slicing(const poplar::Target &target, std::size_t channels)
      : rows(std::max<std::size_t>(1, (channels + target.getNumTiles() - 1) / target.getNumTiles())),
        slices(std::max<std::size_t>(1, target.getNumWorkerContexts() / rows)) {}
  std::size_t rows, slices;
};

// The three rules' values, each rule from an even place on.
std::vector<float> inOneRow(const std::vector<Points> &rules, std::vector<double> Points::*member) {
  std::vector<float> out;
  for (const Points &rule : rules) {
    out.resize((out.size() + 1) / 2 * 2, 0.0f);
    out.insert(out.end(), (rule.*member).begin(), (rule.*member).end());
  }
  return out;
}

// The sums over slices of the points: [C, slices * (2 or 6)].
poplar::Tensor addSiluSums(poplar::Graph &graph, poplar::ComputeSet set, const Parameters &parameters,
                           const ProxySettings &settings, bool slopes, const poplar::DebugNameAndId &dnai) {
  const std::size_t channels = parameters.beta.dim(0), values = slopes ? 6 : 2;
  const unsigned tiles = graph.getTarget().getNumTiles();
  const Slicing slicing(graph.getTarget(), channels);
  const std::vector<Points> rules = siluPoints(settings.quantiles);
  const std::vector<float> points = inOneRow(rules, &Points::points), weights = inOneRow(rules, &Points::weights);
  const poplar::Tensor sums =
      graph.addVariable(poplar::FLOAT, {channels, slicing.slices * values}, {dnai, "proxySums"});
  for (std::size_t begin = 0, turn = 0; begin < channels; begin += slicing.rows, ++turn) {
    const ChannelBlock block = {unsigned(tiles - 1 - turn), begin, std::min(channels, begin + slicing.rows)};
    const poplar::Tensor out = sums.slice(block.begin, block.end);
    const poplar::VertexRef vertex =
        graph.addVertex(set, vertexName("SiluProxySums", {parameters.beta.elementType()}, slopes));
    connectParameters(graph, vertex, parameters, block);
    graph.connect(vertex["points"], constantOn(graph, block.tile, points, dnai));
    graph.connect(vertex["weights"], constantOn(graph, block.tile, weights, dnai));
    graph.connect(vertex["sums"], out.flatten());
    graph.setInitialValue(vertex["rows"], unsigned(block.end - block.begin));
    graph.setInitialValue(vertex["slices"], unsigned(slicing.slices));
    const char *const counts[] = {"count0", "count1", "count2"};
    for (std::size_t rule = 0; rule < rules.size(); ++rule)
      graph.setInitialValue(vertex[counts[rule]], unsigned(rules[rule].points.size()));
    graph.setTileMapping(out, block.tile);
    graph.setTileMapping(vertex, block.tile);
    const std::size_t pairs = (rules[0].points.size() + 1) / 2;
    graph.setPerfEstimate(vertex, cycles::siluProxySums((block.end - block.begin) * slicing.slices,
                                                        (pairs + slicing.slices - 1) / slicing.slices, slopes));
  }
  return sums;
}

void finishSiluVertex(poplar::Graph &graph, poplar::VertexRef vertex, const poplar::Tensor &sums,
                      const ChannelBlock &block) {
  const Slicing slicing(graph.getTarget(), sums.dim(0));
  connectBlock(graph, vertex, "sums", sums, block);
  graph.setInitialValue(vertex["rows"], unsigned(block.end - block.begin));
  graph.setInitialValue(vertex["slices"], unsigned(slicing.slices));
  graph.setTileMapping(vertex, block.tile);
  graph.setPerfEstimate(vertex,
                        cycles::sums(block.end - block.begin, slicing.slices, sums.dim(1) / slicing.slices, 40));
}

} // namespace

Statistics addProxy(poplar::Graph &graph, poplar::ComputeSet early, poplar::ComputeSet last,
                    const Parameters &parameters, const ProxySettings &settings,
                    const poplar::DebugNameAndId &dnai) {
  const std::size_t channels = parameters.beta.dim(0);
  const poplar::Type type = parameters.beta.elementType();
  const Statistics statistics = addStatistics(graph, channels, dnai);
  const poplar::Tensor sums =
      settings.silu ? addSiluSums(graph, early, parameters, settings, false, dnai) : poplar::Tensor();
  for (const ChannelBlock &block : channelBlocks(graph, channels)) {
    const poplar::VertexRef vertex =
        graph.addVertex(last, vertexName(settings.silu ? "SiluProxy" : "ReluProxy", {type}));
    connectStatistics(graph, vertex, statistics, block, settings);
    if (settings.silu) {
      connectBlock(graph, vertex, "beta", parameters.beta, block);
      connectBlock(graph, vertex, "gamma", parameters.gamma, block);
      connectBlock(graph, vertex, "proxyBeta", parameters.proxyBeta, block);
      finishSiluVertex(graph, vertex, sums, block);
    } else {
      addReluVertex(graph, vertex, parameters, block, settings, dnai);
    }
  }
  return statistics;
}

poplar::Tensor addProxySlopes(poplar::Graph &graph, poplar::ComputeSet early, poplar::ComputeSet last,
                              const Parameters &parameters, const ProxySettings &settings,
                              const poplar::DebugNameAndId &dnai) {
  const std::size_t channels = parameters.beta.dim(0);
  const poplar::Tensor slopes = addByChannel(graph, poplar::FLOAT, {channels, 4}, {dnai, "proxySlopes"});
  const poplar::Tensor sums =
      settings.silu ? addSiluSums(graph, early, parameters, settings, true, dnai) : poplar::Tensor();
  for (const ChannelBlock &block : channelBlocks(graph, channels)) {
    const poplar::VertexRef vertex =
        graph.addVertex(last, settings.silu ? "proxy_norm::SiluSlopes"
                                            : vertexName("ReluSlopes", {parameters.beta.elementType()}));
    connectBlock(graph, vertex, "slopes", slopes, block);
    if (settings.silu)
      finishSiluVertex(graph, vertex, sums, block);
    else
      addReluVertex(graph, vertex, parameters, block, settings, dnai);
  }
  return slopes;
}

Parameters addProxyGradients(poplar::Graph &graph, poplar::ComputeSet set, const Parameters &parameters,
                             const poplar::Tensor &inverse, const poplar::Tensor &slopes,
                             const Statistics &gradients, const poplar::Tensor &directBeta,
                             const poplar::Tensor &directGamma, const poplar::DebugNameAndId &dnai) {
  const std::size_t channels = parameters.beta.dim(0);
  const poplar::Type type = parameters.beta.elementType();
  const Parameters out = {addByChannel(graph, type, {channels}, {dnai, "gradBeta"}),
                          addByChannel(graph, type, {channels}, {dnai, "gradGamma"}),
                          addByChannel(graph, type, {channels}, {dnai, "gradProxyBeta"}),
                          addByChannel(graph, type, {channels}, {dnai, "gradProxyGamma"})};
  for (const ChannelBlock &block : channelBlocks(graph, channels)) {
    const poplar::VertexRef vertex = graph.addVertex(set, vertexName("ProxyGradients", {type}));
    connectBlock(graph, vertex, "gamma", parameters.gamma, block);
    connectBlock(graph, vertex, "proxyBeta", parameters.proxyBeta, block);
    connectBlock(graph, vertex, "proxyGamma", parameters.proxyGamma, block);
    connectBlock(graph, vertex, "inverse", inverse, block);
    connectBlock(graph, vertex, "slopes", slopes, block);
    connectBlock(graph, vertex, "gradMean", gradients.mean, block);
    connectBlock(graph, vertex, "gradInverse", gradients.inverse, block);
    connectBlock(graph, vertex, "directBeta", directBeta, block);
    connectBlock(graph, vertex, "directGamma", directGamma, block);
    connectBlock(graph, vertex, "gradBeta", out.beta, block);
    connectBlock(graph, vertex, "gradGamma", out.gamma, block);
    connectBlock(graph, vertex, "gradProxyBeta", out.proxyBeta, block);
    connectBlock(graph, vertex, "gradProxyGamma", out.proxyGamma, block);
    graph.setInitialValue(vertex["rows"], unsigned(block.end - block.begin));
    graph.setTileMapping(vertex, block.tile);
    graph.setPerfEstimate(vertex, cycles::sums(block.end - block.begin, 1, 1, 45));
  }
  return out;
}

poplar::VertexRef addSweep(poplar::Graph &graph, poplar::ComputeSet set, const std::string &name,
                           const TileRun &run, const Shape &shape, const poplar::Tensor &x,
                           const poplar::DebugNameAndId &dnai) {
  const poplar::VertexRef vertex = graph.addVertex(set, name);
  const poplar::Tensor pieces =
      graph.addConstant<unsigned short>(poplar::UNSIGNED_SHORT, {run.pieces.size()},
                                        poplar::ArrayRef<unsigned short>(run.pieces), {dnai, "pieces"});
  graph.setTileMapping(pieces, run.tile);
  graph.setTileMapping(vertex, run.tile);
  graph.connect(vertex["x"], rowsOf(x.flatten(), run.elements));
  graph.connect(vertex["pieces"], pieces);
  graph.setInitialValue(vertex["length"], unsigned(run.length));
  graph.setInitialValue(vertex["pieceCount"], unsigned(run.pieces.size() / TileRun::kNumbers));
  graph.setInitialValue(vertex["perGroup"], unsigned(shape.perGroup));
  return vertex;
}

void connectContext(poplar::Graph &graph, poplar::VertexRef vertex, const TileRun &run, const Context &context) {
  graph.connect(vertex["groupMean"], rowsOf(context.groupMean.flatten(), run.groups));
  graph.connect(vertex["groupInverse"], rowsOf(context.groupInverse.flatten(), run.groups));
  graph.connect(vertex["beta"], rowsOf(context.beta, run.channels));
  graph.connect(vertex["gamma"], rowsOf(context.gamma, run.channels));
  graph.connect(vertex["mean"], rowsOf(context.statistics.mean, run.channels));
  graph.connect(vertex["inverse"], rowsOf(context.statistics.inverse, run.channels));
}

} // namespace proxy_norm
