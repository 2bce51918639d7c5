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

poplar::Tensor constantByChannel(poplar::Graph &graph, std::size_t channels, float value, unsigned start,
                                 const poplar::DebugNameAndId &dnai) {
  const poplar::Tensor constant = graph.addConstant<float>(poplar::FLOAT, {channels}, value, {dnai, "constant"});
  for (const ChannelBlock &block : channelBlocks(graph, channels, start))
    graph.setTileMapping(constant.slice(block.begin, block.end), block.tile);
  return constant;
}

namespace {

// A table of the proxy's points, once for a tile, however many operators of the graph read it there.
poplar::Tensor tableOn(const Site &site, unsigned tile, const std::string &name, const std::vector<float> &values) {
  const std::string key = name + "/tile" + std::to_string(tile);
  if (site.constants.has(key))
    return site.constants.get(key);
  const poplar::Tensor table = site.graph.addConstant<float>(
      poplar::FLOAT, {values.size()}, poplar::ArrayRef<float>(values), {site.dnai, "points"});
  site.graph.setTileMapping(table, tile);
  site.constants.keep(key, table);
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

Statistics addStatistics(const Site &site, std::size_t channels) {
  return {addByChannel(site.graph, poplar::FLOAT, {channels}, site.start, site.name("proxyMean")),
          addByChannel(site.graph, poplar::FLOAT, {channels}, site.start, site.name("proxyInverse"))};
}

void connectStatistics(poplar::Graph &graph, poplar::VertexRef vertex, const Statistics &statistics,
                       const ChannelBlock &block, const ProxySettings &settings) {
  connectBlock(graph, vertex, "mean", statistics.mean, block);
  connectBlock(graph, vertex, "inverse", statistics.inverse, block);
  graph.setInitialValue(vertex["eps"], settings.eps);
}

// "ReluProxy" or "ReluSlopes", or what stands for them with the exact expectation.
poplar::VertexRef addReluVertex(const Site &site, poplar::ComputeSet set, const std::string &name,
                                const Parameters &parameters, const ChannelBlock &block,
                                const ProxySettings &settings, const std::vector<float> &table) {
  poplar::Graph &graph = site.graph;
  const bool exact = settings.quantiles == 0;
  const poplar::VertexRef vertex =
      graph.addVertex(set, vertexName((exact ? "Gaussian" : "") + name, {parameters.beta.elementType()}));
  connectParameters(graph, vertex, parameters, block);
  if (!exact) {
    graph.connect(vertex["table"],
                  tableOn(site, block.tile, "relu" + std::to_string(settings.quantiles), table));
    graph.setInitialValue(vertex["points"], settings.quantiles);
  }
  graph.setInitialValue(vertex["rows"], unsigned(block.end - block.begin));
  graph.setTileMapping(vertex, block.tile);
  graph.setPerfEstimate(vertex, cycles::reluProxy(block.end - block.begin, settings.quantiles));
  return vertex;
}

std::vector<float> tableFor(const ProxySettings &settings) {
  return settings.silu || settings.quantiles == 0 ? std::vector<float>() : reluTable(settings.quantiles);
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
poplar::Tensor addSiluSums(const Site &site, poplar::ComputeSet set, const Parameters &parameters,
                           const ProxySettings &settings, bool slopes) {
  poplar::Graph &graph = site.graph;
  const std::size_t channels = parameters.beta.dim(0), values = slopes ? 6 : 2;
  const unsigned tiles = graph.getTarget().getNumTiles();
  const Slicing slicing(graph.getTarget(), channels);
  const std::vector<Points> rules = siluPoints(settings.quantiles);
  const std::vector<float> points = inOneRow(rules, &Points::points), weights = inOneRow(rules, &Points::weights);
  const std::string name = "silu" + std::to_string(settings.quantiles);
  const poplar::Tensor sums =
      graph.addVariable(poplar::FLOAT, {channels, slicing.slices * values}, site.name("proxySums"));
  for (std::size_t begin = 0, turn = 0; begin < channels; begin += slicing.rows, ++turn) {
    const ChannelBlock block = {unsigned((site.start + turn) % tiles), begin,
                                std::min(channels, begin + slicing.rows)};
    const poplar::Tensor out = sums.slice(block.begin, block.end);
    const poplar::VertexRef vertex =
        graph.addVertex(set, vertexName("SiluProxySums", {parameters.beta.elementType()}, slopes));
    connectParameters(graph, vertex, parameters, block);
    graph.connect(vertex["points"], tableOn(site, block.tile, name + "points", points));
    graph.connect(vertex["weights"], tableOn(site, block.tile, name + "weights", weights));
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

Statistics addProxy(const Site &site, poplar::ComputeSet early, poplar::ComputeSet last,
                    const Parameters &parameters, const ProxySettings &settings) {
  poplar::Graph &graph = site.graph;
  const std::size_t channels = parameters.beta.dim(0);
  const Statistics statistics = addStatistics(site, channels);
  const poplar::Tensor sums =
      settings.silu ? addSiluSums(site, early, parameters, settings, false) : poplar::Tensor();
  const std::vector<float> table = tableFor(settings);
  for (const ChannelBlock &block : channelBlocks(graph, channels, site.start)) {
    if (!settings.silu) {
      const poplar::VertexRef vertex =
          addReluVertex(site, last, "ReluProxy", parameters, block, settings, table);
      connectStatistics(graph, vertex, statistics, block, settings);
      continue;
    }
    const poplar::VertexRef vertex =
        graph.addVertex(last, vertexName("SiluProxy", {parameters.beta.elementType()}));
    connectStatistics(graph, vertex, statistics, block, settings);
    connectBlock(graph, vertex, "beta", parameters.beta, block);
    connectBlock(graph, vertex, "gamma", parameters.gamma, block);
    connectBlock(graph, vertex, "proxyBeta", parameters.proxyBeta, block);
    finishSiluVertex(graph, vertex, sums, block);
  }
  return statistics;
}

poplar::Tensor addProxySlopes(const Site &site, poplar::ComputeSet early, poplar::ComputeSet last,
                              const Parameters &parameters, const ProxySettings &settings) {
  poplar::Graph &graph = site.graph;
  const std::size_t channels = parameters.beta.dim(0);
  const poplar::Tensor slopes =
      addByChannel(graph, poplar::FLOAT, {channels, 4}, site.start, site.name("proxySlopes"));
  const poplar::Tensor sums =
      settings.silu ? addSiluSums(site, early, parameters, settings, true) : poplar::Tensor();
  const std::vector<float> table = tableFor(settings);
  for (const ChannelBlock &block : channelBlocks(graph, channels, site.start)) {
    const poplar::VertexRef vertex =
        settings.silu ? graph.addVertex(last, "proxy_norm::SiluSlopes")
                      : addReluVertex(site, last, "ReluSlopes", parameters, block, settings, table);
    connectBlock(graph, vertex, "slopes", slopes, block);
    if (settings.silu)
      finishSiluVertex(graph, vertex, sums, block);
  }
  return slopes;
}

Parameters addProxyGradients(const Site &site, poplar::ComputeSet set, const Parameters &parameters,
                             const poplar::Tensor &inverse, const poplar::Tensor &slopes,
                             const Statistics &gradients, const poplar::Tensor &directBeta,
                             const poplar::Tensor &directGamma) {
  poplar::Graph &graph = site.graph;
  const std::size_t channels = parameters.beta.dim(0);
  const poplar::Type type = parameters.beta.elementType();
  const auto add = [&](const char *name) {
    return addByChannel(graph, type, {channels}, site.start, site.name(name));
  };
  const Parameters out = {add("gradBeta"), add("gradGamma"), add("gradProxyBeta"), add("gradProxyGamma")};
  for (const ChannelBlock &block : channelBlocks(graph, channels, site.start)) {
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

} // namespace proxy_norm
