#include "graph.hpp"

#include "codelet_path.hpp"
#include "cycles.hpp"
#include "steps.hpp"

#include <poplar/Target.hpp>

#include <string>
#include <utility>
#include <vector>

namespace proxy_norm {
namespace {

using poplar::program::Execute;
using poplar::program::Sequence;

// The statistics of a problem without a norm: one group of mean zero and deviation one.
Context withoutNorm(poplar::Graph &graph, const Shape &shape, const std::vector<TileRun> &runs,
                    const poplar::Tensor &beta, const poplar::Tensor &gamma, const Statistics &statistics,
                    const poplar::DebugNameAndId &dnai) {
  Context context{shape, runs, {}, {}, beta, gamma, statistics};
  context.groupMean = graph.addConstant<float>(poplar::FLOAT, {1}, 0.0f, {dnai, "groupMean"});
  context.groupInverse = graph.addConstant<float>(poplar::FLOAT, {1}, 1.0f, {dnai, "groupInverse"});
  graph.setTileMapping(context.groupMean, 0);
  graph.setTileMapping(context.groupInverse, 0);
  return context;
}

// What each worker of a tile leaves: [workers, rows * values]. The CPU target too runs a MultiVertex six times,
// though it may have one worker context: PopLibs' vertices count on six there.
poplar::Tensor addPartials(poplar::Graph &graph, const TileRun &run, std::size_t rows, std::size_t values,
                           const poplar::DebugContext &debugContext) {
  const std::size_t workers = cycles::kWorkers;
  const poplar::Tensor partials = graph.addVariable(poplar::FLOAT, {workers, rows * values}, debugContext);
  graph.setTileMapping(partials, run.tile);
  return partials;
}

poplar::Tensor addForward(poplar::Graph &graph, poplar::ComputeSet set, const poplar::Tensor &x,
                          const Context &context, const ProxySettings &settings,
                          const poplar::DebugNameAndId &dnai) {
  const poplar::Tensor y = graph.clone(x, {dnai, "y"});
  const bool half = x.elementType() == poplar::HALF;
  const std::string name =
      vertexName("ProxyNormForward", {x.elementType(), context.beta.elementType()}, settings.silu);
  for (const TileRun &run : context.runs) {
    const poplar::VertexRef vertex = addSweep(graph, set, name, run, context.shape, x, dnai);
    connectContext(graph, vertex, run, context);
    graph.connect(vertex["out"], rowsOf(y.flatten(), run.elements));
    graph.setPerfEstimate(vertex, cycles::sweep(run, cycles::forward(half, settings.silu, settings.proxy)));
  }
  return y;
}

// The group norm's sums: rows of [N * G], two values.
std::vector<Part> addGroupSums(poplar::Graph &graph, poplar::ComputeSet set, const poplar::Tensor &x,
                               const poplar::Tensor &shift, const Shape &shape, const std::vector<TileRun> &runs,
                               const poplar::DebugNameAndId &dnai) {
  std::vector<Part> parts;
  const bool half = x.elementType() == poplar::HALF;
  for (const TileRun &run : runs) {
    const poplar::VertexRef vertex =
        addSweep(graph, set, vertexName("GroupSums", {x.elementType()}), run, shape, x, dnai);
    const poplar::Tensor partials = addPartials(graph, run, run.groupCount, 2, {dnai, "groupPartials"});
    graph.connect(vertex["shift"], rowsOf(shift, run.groups));
    graph.connect(vertex["partials"], partials.flatten());
    graph.setInitialValue(vertex["groups"], unsigned(run.groupCount));
    graph.setPerfEstimate(vertex, cycles::sweep(run, cycles::groupSums(half)));
    parts.push_back({run.tile, run.groups, partials});
  }
  return parts;
}

// Mean and inverse deviation of the groups, [N * G] each.
Statistics addFinishStatistics(poplar::Graph &graph, poplar::ComputeSet set, const std::vector<RowSum> &sums,
                               const poplar::Tensor &shift, const Shape &shape, const ProxySettings &settings,
                               const poplar::DebugNameAndId &dnai) {
  const Statistics out = {graph.addVariable(poplar::FLOAT, {shape.allGroups()}, {dnai, "groupMean"}),
                          graph.addVariable(poplar::FLOAT, {shape.allGroups()}, {dnai, "groupInverse"})};
  for (const RowSum &sum : sums) {
    const poplar::VertexRef vertex = graph.addVertex(set, vertexName("FinishStatistics", {shift.elementType()}));
    const auto rows = [&](const poplar::Tensor &tensor) {
      return tensor.slice(sum.firstRow, sum.firstRow + sum.rows);
    };
    graph.connect(vertex["partials"], sum.parts);
    graph.connect(vertex["shift"], rows(shift));
    graph.connect(vertex["mean"], rows(out.mean));
    graph.connect(vertex["inverse"], rows(out.inverse));
    graph.setTileMapping(rows(out.mean), sum.tile);
    graph.setTileMapping(rows(out.inverse), sum.tile);
    graph.setInitialValue(vertex["rows"], unsigned(sum.rows));
    graph.setInitialValue(vertex["parts"], unsigned(sum.count));
    graph.setInitialValue(vertex["share"], 1.0f / float(shape.perGroup * shape.spatial));
    graph.setInitialValue(vertex["eps"], settings.normEps);
    graph.setTileMapping(vertex, sum.tile);
    graph.setPerfEstimate(vertex, cycles::sums(sum.rows, sum.count, 2, 30));
  }
  return out;
}

// The backward sums: by channel (rows of [C], four values) and by group (rows of [N * G], two values).
struct BackwardParts {
  std::vector<Part> byChannel, byGroup;
};

BackwardParts addBackwardSums(poplar::Graph &graph, poplar::ComputeSet set, const poplar::Tensor &x,
                              const poplar::Tensor &grad, const Context &context, const ProxySettings &settings,
                              const poplar::DebugNameAndId &dnai) {
  const bool half = x.elementType() == poplar::HALF;
  const std::string name =
      vertexName("BackwardSums", {x.elementType(), context.beta.elementType()}, settings.silu);
  BackwardParts parts;
  for (const TileRun &run : context.runs) {
    const poplar::VertexRef vertex = addSweep(graph, set, name, run, context.shape, x, dnai);
    connectContext(graph, vertex, run, context);
    const poplar::Tensor byChannel = addPartials(graph, run, run.channelCount, 4, {dnai, "channelPartials"});
    const poplar::Tensor byGroup = addPartials(graph, run, run.groupCount, 2, {dnai, "groupPartials"});
    graph.connect(vertex["grad"], rowsOf(grad.flatten(), run.elements));
    graph.connect(vertex["channelPartials"], byChannel.flatten());
    graph.connect(vertex["groupPartials"], byGroup.flatten());
    graph.setInitialValue(vertex["groups"], unsigned(run.groupCount));
    graph.setInitialValue(vertex["channels"], unsigned(run.channelCount));
    graph.setPerfEstimate(vertex, cycles::sweep(run, cycles::backwardSums(half, settings.silu, settings.proxy)));
    parts.byChannel.push_back({run.tile, run.channels, byChannel});
    parts.byGroup.push_back({run.tile, run.groups, byGroup});
  }
  return parts;
}

poplar::Tensor addBackwardInput(poplar::Graph &graph, poplar::ComputeSet set, const poplar::Tensor &x,
                                const poplar::Tensor &grad, const Context &context,
                                const poplar::Tensor &groupSums, const ProxySettings &settings,
                                const poplar::DebugNameAndId &dnai) {
  const poplar::Tensor gradX = graph.clone(x, {dnai, "gradX"});
  const bool half = x.elementType() == poplar::HALF;
  const std::string name =
      vertexName("BackwardInput", {x.elementType(), context.beta.elementType()}, settings.silu);
  for (const TileRun &run : context.runs) {
    const poplar::VertexRef vertex = addSweep(graph, set, name, run, context.shape, x, dnai);
    connectContext(graph, vertex, run, context);
    graph.connect(vertex["grad"], rowsOf(grad.flatten(), run.elements));
    graph.connect(vertex["groupSums"], rowsOf(groupSums, run.groups));
    graph.connect(vertex["gradX"], rowsOf(gradX.flatten(), run.elements));
    graph.setInitialValue(vertex["share"], 1.0f / float(context.shape.perGroup * context.shape.spatial));
    graph.setPerfEstimate(vertex, cycles::sweep(run, cycles::backwardInput(half, settings.silu)));
  }
  return gradX;
}

// Adds up the channels' sums: gradients of beta, gamma (of `type`), m and s.
struct ChannelGradients {
  poplar::Tensor beta, gamma;
  Statistics statistics;
};

// The tiles of the proxies are busy while others finish the sums.
constexpr std::size_t kProxyLoad = 400; // in values added
void avoidProxies(const poplar::Graph &graph, Stages &stages, const Shape &shape, const ProxySettings &settings) {
  if (settings.proxy)
    for (const ChannelBlock &block : channelBlocks(graph, shape.channels))
      stages.avoid(block.tile, kProxyLoad);
}

constexpr std::size_t kChannelRows = 12; // of one such vertex: two for each worker, as halves go in pairs

ChannelGradients addFinishChannels(poplar::Graph &graph, poplar::ComputeSet set, const std::vector<RowSum> &sums,
                                   const Statistics &statistics, const poplar::Type &type,
                                   const poplar::DebugNameAndId &dnai) {
  const std::size_t channels = statistics.mean.dim(0);
  const ChannelGradients out = {graph.addVariable(type, {channels}, {dnai, "gradBeta"}),
                                graph.addVariable(type, {channels}, {dnai, "gradGamma"}),
                                {graph.addVariable(poplar::FLOAT, {channels}, {dnai, "gradMean"}),
                                 graph.addVariable(poplar::FLOAT, {channels}, {dnai, "gradInverse"})}};
  for (const RowSum &sum : sums) {
    const poplar::VertexRef vertex = graph.addVertex(set, vertexName("FinishChannels", {type}));
    const auto rows = [&](const poplar::Tensor &tensor) {
      return tensor.slice(sum.firstRow, sum.firstRow + sum.rows);
    };
    graph.connect(vertex["partials"], sum.parts);
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
    graph.setTileMapping(vertex, sum.tile);
    graph.setPerfEstimate(vertex, cycles::sums((sum.rows + 1) / 2, sum.count, 8, 20));
  }
  return out;
}

// A tensor [C] of zeros that is no constant, as an operator's output must be.
poplar::Tensor addZeros(poplar::Graph &graph, const poplar::Type &type, std::size_t channels, Sequence &program,
                        const poplar::DebugNameAndId &dnai) {
  const poplar::Tensor zeros = addByChannel(graph, type, {channels}, {dnai, "zeros"});
  const poplar::Tensor constant = graph.addConstant<float>(type, {channels}, 0.0f, {dnai, "zeros"});
  for (const ChannelBlock &block : channelBlocks(graph, channels))
    graph.setTileMapping(constant.slice(block.begin, block.end), block.tile);
  program.add(poplar::program::Copy(constant, zeros, false, {dnai, "zeros"}));
  return zeros;
}

} // namespace

void addCodelets(poplar::Graph &graph) {
  if (!graph.hasCodelet("proxy_norm::SumParts"))
    graph.addCodelets(codeletPath());
}

poplar::Tensor createParameter(poplar::Graph &graph, const poplar::Type &type, std::size_t channels,
                               const poplar::DebugNameAndId &dnai) {
  return addByChannel(graph, type, {channels}, {dnai, "parameter"});
}

poplar::Tensor zerosByChannel(poplar::Graph &graph, std::size_t channels, const poplar::DebugNameAndId &dnai) {
  return constantByChannel(graph, channels, 0.0f, dnai);
}

Statistics proxyNormStats(poplar::Graph &graph, const Parameters &parameters, const ProxySettings &settings,
                          Sequence &program, const poplar::DebugNameAndId &dnai) {
  addCodelets(graph);
  const poplar::ComputeSet early = graph.addComputeSet({dnai, "proxySums"});
  const poplar::ComputeSet last = graph.addComputeSet({dnai, "proxy"});
  const Statistics out = addProxy(graph, early, last, parameters, settings, dnai);
  if (settings.silu)
    program.add(Execute(early, {dnai, "proxySums"}));
  program.add(Execute(last, {dnai, "proxy"}));
  return out;
}

Parameters proxyNormStatsGrad(poplar::Graph &graph, const Parameters &parameters, const poplar::Tensor &inverse,
                              const Statistics &gradients, const ProxySettings &settings, Sequence &program,
                              const poplar::DebugNameAndId &dnai) {
  addCodelets(graph);
  const poplar::ComputeSet early = graph.addComputeSet({dnai, "proxySums"});
  const poplar::ComputeSet last = graph.addComputeSet({dnai, "proxySlopes"});
  const poplar::ComputeSet finish = graph.addComputeSet({dnai, "proxyGradients"});
  const poplar::Tensor slopes = addProxySlopes(graph, early, last, parameters, settings, dnai);
  const poplar::Tensor zero = zerosByChannel(graph, parameters.beta.dim(0), dnai);
  const Parameters out =
      addProxyGradients(graph, finish, parameters, inverse, slopes, gradients, zero, zero, dnai);
  if (settings.silu)
    program.add(Execute(early, {dnai, "proxySums"}));
  program.add(Execute(last, {dnai, "proxySlopes"}));
  program.add(Execute(finish, {dnai, "proxyGradients"}));
  return out;
}

poplar::Tensor proxyNormAct(poplar::Graph &graph, const poplar::Tensor &x, const poplar::Tensor &beta,
                            const poplar::Tensor &gamma, const Statistics &statistics,
                            const ProxySettings &settings, Sequence &program, const poplar::DebugNameAndId &dnai) {
  addCodelets(graph);
  const Shape shape(x, 0);
  const std::vector<TileRun> runs = tileRuns(graph, x, shape);
  const Context context = withoutNorm(graph, shape, runs, beta, gamma, statistics, dnai);
  const poplar::ComputeSet set = graph.addComputeSet({dnai, "proxyNormAct"});
  const poplar::Tensor y = addForward(graph, set, x, context, settings, dnai);
  program.add(Execute(set, {dnai, "proxyNormAct"}));
  return y;
}

ActGradients proxyNormActGrad(poplar::Graph &graph, const poplar::Tensor &x, const poplar::Tensor &grad,
                              const poplar::Tensor &beta, const poplar::Tensor &gamma,
                              const Statistics &statistics, const ProxySettings &settings, Sequence &program,
                              const poplar::DebugNameAndId &dnai) {
  addCodelets(graph);
  const Shape shape(x, 0);
  const std::vector<TileRun> runs = tileRuns(graph, x, shape);
  const Context context = withoutNorm(graph, shape, runs, beta, gamma, statistics, dnai);
  const poplar::ComputeSet sweep = graph.addComputeSet({dnai, "proxyNormActGrad"});
  const poplar::ComputeSet finish = graph.addComputeSet({dnai, "finish"});
  Stages stages(graph, dnai);
  const poplar::Tensor zero = graph.addConstant<float>(poplar::FLOAT, {1, 2}, 0.0f, {dnai, "groupSums"});
  graph.setTileMapping(zero, 0);
  const poplar::Tensor gradX = addBackwardInput(graph, sweep, x, grad, context, zero, settings, dnai);
  const BackwardParts parts = addBackwardSums(graph, sweep, x, grad, context, settings, dnai);
  const ChannelGradients out =
      addFinishChannels(graph, finish, stages.add(parts.byChannel, shape.channels, 4, kChannelRows), statistics,
                        beta.elementType(), dnai);
  program.add(Execute(sweep, {dnai, "proxyNormActGrad"}));
  stages.execute(program);
  program.add(Execute(finish, {dnai, "finish"}));
  return {gradX, out.beta, out.gamma, out.statistics.mean, out.statistics.inverse};
}

Normalised groupNormProxyNormAct(poplar::Graph &graph, const poplar::Tensor &x, const Parameters &parameters,
                                 const ProxySettings &settings, Sequence &program,
                                 const poplar::DebugNameAndId &dnai) {
  addCodelets(graph);
  const Shape shape(x, settings.groups);
  const std::vector<TileRun> runs = tileRuns(graph, x, shape);
  const std::size_t workers = graph.getTarget().getNumWorkerContexts();
  const poplar::ComputeSet sweep = graph.addComputeSet({dnai, "groupSums"});
  const poplar::ComputeSet finish = graph.addComputeSet({dnai, "statistics"});
  const poplar::ComputeSet apply = graph.addComputeSet({dnai, "normProxyNormAct"});
  Stages stages(graph, dnai);

  avoidProxies(graph, stages, shape, settings);

  // The first element of each group: what its sums are taken relative to.
  const std::size_t ofGroup = shape.perGroup * shape.spatial;
  const poplar::Tensor shift = x.flatten().reshape({shape.allGroups(), ofGroup}).slice(0, 1, 1).flatten();
  const std::vector<Part> parts = addGroupSums(graph, sweep, x, shift, shape, runs, dnai);
  const Statistics groups = addFinishStatistics(graph, finish, stages.add(parts, shape.allGroups(), 2, workers),
                                                shift, shape, settings, dnai);
  Normalised out;
  if (settings.proxy) {
    out.statistics = addProxy(graph, stages.onTile(), finish, parameters, settings, dnai);
  } else {
    out.statistics.mean = addZeros(graph, poplar::FLOAT, shape.channels, program, dnai);
    out.statistics.inverse = addByChannel(graph, poplar::FLOAT, {shape.channels}, {dnai, "ones"});
    program.add(poplar::program::Copy(constantByChannel(graph, shape.channels, 1.0f, dnai), out.statistics.inverse,
                                      false, {dnai, "ones"}));
  }
  const Context context{shape,         runs, groups.mean, groups.inverse, parameters.beta, parameters.gamma,
                        out.statistics};
  out.y = addForward(graph, apply, x, context, settings, dnai);
  out.groupMean = groups.mean.reshape({shape.instances, shape.groups});
  out.groupInverse = groups.inverse.reshape({shape.instances, shape.groups});
  program.add(Execute(sweep, {dnai, "groupSums"}));
  stages.execute(program);
  program.add(Execute(finish, {dnai, "statistics"}));
  program.add(Execute(apply, {dnai, "normProxyNormAct"}));
  return out;
}

NormGradients groupNormProxyNormActGrad(poplar::Graph &graph, const poplar::Tensor &x, const poplar::Tensor &grad,
                                        const Parameters &parameters, const Normalised &forward,
                                        const ProxySettings &settings, Sequence &program,
                                        const poplar::DebugNameAndId &dnai) {
  addCodelets(graph);
  const Shape shape(x, settings.groups);
  const std::vector<TileRun> runs = tileRuns(graph, x, shape);
  const std::size_t workers = graph.getTarget().getNumWorkerContexts();
  const poplar::Type type = parameters.beta.elementType();
  const Context context{
      shape, runs, forward.groupMean, forward.groupInverse, parameters.beta, parameters.gamma, forward.statistics};
  const poplar::ComputeSet sweep = graph.addComputeSet({dnai, "backwardSums"});
  const poplar::ComputeSet finish = graph.addComputeSet({dnai, "finish"});
  const poplar::ComputeSet apply = graph.addComputeSet({dnai, "gradients"});
  Stages stages(graph, dnai);
  avoidProxies(graph, stages, shape, settings);
  const BackwardParts parts = addBackwardSums(graph, sweep, x, grad, context, settings, dnai);

  const poplar::Tensor groupSums = graph.addVariable(poplar::FLOAT, {shape.allGroups(), 2}, {dnai, "groupSums"});
  for (const RowSum &sum : stages.add(parts.byGroup, shape.allGroups(), 2, workers)) {
    const poplar::Tensor rows = groupSums.slice(sum.firstRow, sum.firstRow + sum.rows);
    graph.setTileMapping(rows, sum.tile);
    addSumVertex(graph, finish, sum.tile, sum.parts, sum.count, sum.rows * 2, rows);
  }
  const ChannelGradients channel =
      addFinishChannels(graph, finish, stages.add(parts.byChannel, shape.channels, 4, kChannelRows),
                        forward.statistics, settings.proxy ? poplar::FLOAT : type, dnai);

  NormGradients out;
  if (settings.proxy) {
    const poplar::Tensor slopes = addProxySlopes(graph, stages.onTile(), finish, parameters, settings, dnai);
    out.parameters = addProxyGradients(graph, apply, parameters, forward.statistics.inverse, slopes,
                                       channel.statistics, channel.beta, channel.gamma, dnai);
  } else {
    out.parameters = {channel.beta, channel.gamma, addZeros(graph, type, shape.channels, program, dnai),
                      addZeros(graph, type, shape.channels, program, dnai)};
  }
  out.x = addBackwardInput(graph, apply, x, grad, context, groupSums, settings, dnai);
  program.add(Execute(sweep, {dnai, "backwardSums"}));
  stages.execute(program);
  program.add(Execute(finish, {dnai, "finish"}));
  program.add(Execute(apply, {dnai, "gradients"}));
  return out;
}

} // namespace proxy_norm
