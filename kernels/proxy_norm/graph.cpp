#include "graph.hpp"

#include "codelet_path.hpp"
#include "passes.hpp"
#include "steps.hpp"

#include <poplar/Target.hpp>

#include <vector>

namespace proxy_norm {
namespace {

using poplar::program::Copy;
using poplar::program::Execute;

poplar::Tensor constantOn(const Site &site, const poplar::Type &type, float value, const char *name) {
  const poplar::Tensor constant = site.graph.addConstant<float>(type, {1}, value, site.name(name));
  site.graph.setTileMapping(constant, site.start);
  return constant;
}

// The statistics of a problem without a norm: one group of mean zero and deviation one.
GroupStatistics withoutNorm(const Site &site) {
  return {constantOn(site, poplar::FLOAT, 0.0f, "groupMean"), constantOn(site, poplar::FLOAT, 1.0f, "groupInverse")};
}

// A tensor [C] of one value that is no constant, as an operator's output must be.
poplar::Tensor addFilled(const Site &site, const poplar::Type &type, std::size_t channels, float value,
                         const char *name) {
  const poplar::Tensor filled = addByChannel(site.graph, type, {channels}, site.start, site.name(name));
  const poplar::Tensor constant = site.graph.addConstant<float>(type, {channels}, value, site.name(name));
  for (const ChannelBlock &block : channelBlocks(site.graph, channels, site.start))
    site.graph.setTileMapping(constant.slice(block.begin, block.end), block.tile);
  site.program.add(Copy(constant, filled, false, site.name(name)));
  return filled;
}

// The tiles of the proxies are busy while others finish the sums.
constexpr std::size_t kProxyLoad = 400; // in values added
void avoidProxies(const Site &site, Stages &stages, const Shape &shape, const ProxySettings &settings) {
  if (settings.proxy)
    for (const ChannelBlock &block : channelBlocks(site.graph, shape.channels, site.start))
      stages.avoid(block.tile, kProxyLoad);
}

// Of one vertex that finishes sums: a pair, as halves share a word. What it adds comes from many tiles, and more would
// wait longer for it than the other workers save.
constexpr std::size_t kFinishedRows = 2;

} // namespace

unsigned startTile(const poplar::Graph &graph, long long operatorNumber) {
  // Steps of a golden section of the tiles: any number of operators in a row begins about evenly spread.
  const unsigned tiles = graph.getTarget().getNumTiles();
  const unsigned long long step = tiles * 618ull / 1000 | 1;
  return unsigned((static_cast<unsigned long long>(operatorNumber) * step) % tiles);
}

void addCodelets(poplar::Graph &graph) {
  if (!graph.hasCodelet("proxy_norm::SumParts"))
    graph.addCodelets(codeletPath());
}

poplar::Tensor createParameter(poplar::Graph &graph, const poplar::Type &type, std::size_t channels, unsigned start,
                               const poplar::DebugNameAndId &dnai) {
  return addByChannel(graph, type, {channels}, start, {dnai, "parameter"});
}

poplar::Tensor zerosByChannel(poplar::Graph &graph, std::size_t channels, unsigned start,
                              const poplar::DebugNameAndId &dnai) {
  return constantByChannel(graph, channels, 0.0f, start, dnai);
}

Statistics proxyNormStats(const Site &site, const Parameters &parameters, const ProxySettings &settings) {
  addCodelets(site.graph);
  const poplar::ComputeSet early = site.graph.addComputeSet(site.name("proxySums"));
  const poplar::ComputeSet last = site.graph.addComputeSet(site.name("proxy"));
  const Statistics out = addProxy(site, early, last, parameters, settings);
  if (settings.silu)
    site.program.add(Execute(early, site.name("proxySums")));
  site.program.add(Execute(last, site.name("proxy")));
  return out;
}

Parameters proxyNormStatsGrad(const Site &site, const Parameters &parameters, const poplar::Tensor &inverse,
                              const Statistics &gradients, const ProxySettings &settings) {
  addCodelets(site.graph);
  const poplar::ComputeSet early = site.graph.addComputeSet(site.name("proxySums"));
  const poplar::ComputeSet last = site.graph.addComputeSet(site.name("proxySlopes"));
  const poplar::ComputeSet finish = site.graph.addComputeSet(site.name("proxyGradients"));
  const poplar::Tensor slopes = addProxySlopes(site, early, last, parameters, settings);
  const poplar::Tensor zero = zerosByChannel(site.graph, parameters.beta.dim(0), site.start, site.dnai);
  const Parameters out = addProxyGradients(site, finish, parameters, inverse, slopes, gradients, zero, zero);
  if (settings.silu)
    site.program.add(Execute(early, site.name("proxySums")));
  site.program.add(Execute(last, site.name("proxySlopes")));
  site.program.add(Execute(finish, site.name("proxyGradients")));
  return out;
}

poplar::Tensor proxyNormAct(const Site &site, const poplar::Tensor &x, const poplar::Tensor &beta,
                            const poplar::Tensor &gamma, const Statistics &statistics,
                            const ProxySettings &settings) {
  addCodelets(site.graph);
  const Activations activations(site, x, 0);
  const poplar::ComputeSet prepare = site.graph.addComputeSet(site.name("coefficients"));
  const poplar::ComputeSet apply = site.graph.addComputeSet(site.name("proxyNormAct"));
  const Coefficients coefficients =
      addForwardCoefficients(site, prepare, activations, withoutNorm(site), beta, gamma, statistics, settings);
  const poplar::Tensor y = addForward(site, apply, activations, coefficients, settings);
  site.program.add(Execute(prepare, site.name("coefficients")));
  site.program.add(Execute(apply, site.name("proxyNormAct")));
  return y;
}

ActGradients proxyNormActGrad(const Site &site, const poplar::Tensor &x, const poplar::Tensor &grad,
                              const poplar::Tensor &beta, const poplar::Tensor &gamma,
                              const Statistics &statistics, const ProxySettings &settings) {
  addCodelets(site.graph);
  const Activations activations(site, x, 0);
  const poplar::Tensor orderedGrad = activations.ordered(site, grad);
  const GroupStatistics groups = withoutNorm(site);
  const poplar::ComputeSet prepare = site.graph.addComputeSet(site.name("coefficients"));
  const poplar::ComputeSet sweep = site.graph.addComputeSet(site.name("backwardSums"));
  const poplar::ComputeSet apply = site.graph.addComputeSet(site.name("gradient"));
  const poplar::ComputeSet finish = site.graph.addComputeSet(site.name("finish"));
  Stages stages(site.graph, site.dnai);
  const Coefficients coefficients =
      addBackwardCoefficients(site, prepare, activations, groups, beta, gamma, statistics, settings);
  const GroupTerms none = {constantOn(site, x.elementType(), 0.0f, "byU"),
                           constantOn(site, x.elementType(), 0.0f, "constant")};
  const BackwardParts parts =
      addBackwardSums(site, sweep, activations, orderedGrad, coefficients, groups, settings);
  addBackwardInput(site, apply, activations, parts, coefficients, none, settings);
  const ChannelGradients out = addFinishChannels(
      site, finish, stages.add(parts.byChannel, activations.shape.channels, 4, kFinishedRows), beta, gamma,
      statistics, beta.elementType(), settings);
  site.program.add(Execute(prepare, site.name("coefficients")));
  forget(site, parts.byChannel);
  forget(site, parts.byGroup);
  site.program.add(Execute(sweep, site.name("backwardSums")));
  site.program.add(Execute(apply, site.name("gradient")));
  stages.execute(site.program);
  site.program.add(Execute(finish, site.name("finish")));
  return {parts.gradX, out.beta, out.gamma, out.statistics.mean, out.statistics.inverse};
}

Normalised groupNormProxyNormAct(const Site &site, const poplar::Tensor &x, const Parameters &parameters,
                                 const ProxySettings &settings) {
  poplar::Graph &graph = site.graph;
  addCodelets(graph);
  const Activations activations(site, x, settings.groups);
  const Shape &shape = activations.shape;
  const poplar::ComputeSet sweep = graph.addComputeSet(site.name("groupSums"));
  const poplar::ComputeSet finish = graph.addComputeSet(site.name("statistics"));
  const poplar::ComputeSet prepare = graph.addComputeSet(site.name("coefficients"));
  const poplar::ComputeSet apply = graph.addComputeSet(site.name("normProxyNormAct"));
  Stages stages(graph, site.dnai);
  avoidProxies(site, stages, shape, settings);

  const poplar::Tensor samples = groupSamples(shape, x);
  const std::vector<Part> parts = addGroupSums(site, sweep, activations, samples);
  const GroupStatistics groups = addFinishStatistics(
      site, finish, stages.add(parts, shape.allGroups(), 2, kFinishedRows), samples, shape, settings);
  Normalised out;
  if (settings.proxy)
    out.statistics = addProxy(site, stages.onTile(), finish, parameters, settings);
  else
    out.statistics = {addFilled(site, poplar::FLOAT, shape.channels, 0.0f, "zeros"),
                      addFilled(site, poplar::FLOAT, shape.channels, 1.0f, "ones")};
  const Coefficients coefficients = addForwardCoefficients(site, prepare, activations, groups, parameters.beta,
                                                           parameters.gamma, out.statistics, settings);
  out.y = addForward(site, apply, activations, coefficients, settings);
  out.groupMean = groups.mean.reshape({shape.instances, shape.groups});
  out.groupInverse = groups.inverse.reshape({shape.instances, shape.groups});
  forget(site, parts);
  site.program.add(Execute(sweep, site.name("groupSums")));
  stages.execute(site.program);
  site.program.add(Execute(finish, site.name("statistics")));
  site.program.add(Execute(prepare, site.name("coefficients")));
  site.program.add(Execute(apply, site.name("normProxyNormAct")));
  return out;
}

NormGradients groupNormProxyNormActGrad(const Site &site, const poplar::Tensor &x, const poplar::Tensor &grad,
                                        const Parameters &parameters, const Normalised &forward,
                                        const ProxySettings &settings) {
  poplar::Graph &graph = site.graph;
  addCodelets(graph);
  const Activations activations(site, x, settings.groups);
  const Shape &shape = activations.shape;
  const poplar::Tensor orderedGrad = activations.ordered(site, grad);
  const poplar::Type type = parameters.beta.elementType();
  const GroupStatistics groups = {forward.groupMean.flatten(), forward.groupInverse.flatten()};
  const poplar::ComputeSet prepare = graph.addComputeSet(site.name("coefficients"));
  const poplar::ComputeSet sweep = graph.addComputeSet(site.name("backwardSums"));
  const poplar::ComputeSet finish = graph.addComputeSet(site.name("finish"));
  const poplar::ComputeSet apply = graph.addComputeSet(site.name("gradients"));
  Stages stages(graph, site.dnai);
  avoidProxies(site, stages, shape, settings);

  const Coefficients coefficients = addBackwardCoefficients(site, prepare, activations, groups, parameters.beta,
                                                            parameters.gamma, forward.statistics, settings);
  const BackwardParts parts =
      addBackwardSums(site, sweep, activations, orderedGrad, coefficients, groups, settings);
  const GroupTerms terms = addFinishGroups(
      site, finish, stages.add(parts.byGroup, shape.allGroups(), 2, kFinishedRows), groups, activations);
  const ChannelGradients channel = addFinishChannels(
      site, finish, stages.add(parts.byChannel, shape.channels, 4, kFinishedRows), parameters.beta,
      parameters.gamma, forward.statistics, settings.proxy ? poplar::FLOAT : type, settings);

  NormGradients out;
  if (settings.proxy) { // the slopes wait for nothing: they share the first compute sets
    const poplar::Tensor slopes = addProxySlopes(site, prepare, stages.onTile(), parameters, settings);
    out.parameters = addProxyGradients(site, apply, parameters, forward.statistics.inverse, slopes,
                                       channel.statistics, channel.beta, channel.gamma);
  } else {
    out.parameters = {channel.beta, channel.gamma, addFilled(site, type, shape.channels, 0.0f, "zeros"),
                      addFilled(site, type, shape.channels, 0.0f, "zeros")};
  }
  addBackwardInput(site, apply, activations, parts, coefficients, terms, settings);
  out.x = parts.gradX;
  site.program.add(Execute(prepare, site.name("coefficients")));
  forget(site, parts.byChannel);
  forget(site, parts.byGroup);
  site.program.add(Execute(sweep, site.name("backwardSums")));
  stages.execute(site.program);
  site.program.add(Execute(finish, site.name("finish")));
  site.program.add(Execute(apply, site.name("gradients")));
  return out;
}

} // namespace proxy_norm
