// The operators' steps: each adds vertices to compute sets that its caller orders and executes. Steps that do not
// wait for each other share a compute set, so that Proxy Norm adds none to a group norm's.
#pragma once

#include "graph.hpp"
#include "layout.hpp"
#include "reduce.hpp"

#include <poplar/Type.hpp>

#include <cstddef>
#include <string>
#include <vector>

namespace proxy_norm {

// "proxy_norm::Name<half,float,true>"
std::string vertexName(const std::string &name, const std::vector<poplar::Type> &types);
std::string vertexName(const std::string &name, const std::vector<poplar::Type> &types, bool silu);

// [C]: `value` everywhere, each channel's on its tile.
poplar::Tensor constantByChannel(poplar::Graph &graph, std::size_t channels, float value,
                                 const poplar::DebugNameAndId &dnai);

// m and s, or the derivatives of the proxy's moments ([C, 4]). SiLU needs a compute set before the last.
Statistics addProxy(poplar::Graph &graph, poplar::ComputeSet early, poplar::ComputeSet last,
                    const Parameters &parameters, const ProxySettings &settings,
                    const poplar::DebugNameAndId &dnai);
poplar::Tensor addProxySlopes(poplar::Graph &graph, poplar::ComputeSet early, poplar::ComputeSet last,
                              const Parameters &parameters, const ProxySettings &settings,
                              const poplar::DebugNameAndId &dnai);

// The parameters' gradients from those of m and s and the direct ones of beta and gamma, all [C], float.
Parameters addProxyGradients(poplar::Graph &graph, poplar::ComputeSet set, const Parameters &parameters,
                             const poplar::Tensor &inverse, const poplar::Tensor &slopes,
                             const Statistics &gradients, const poplar::Tensor &directBeta,
                             const poplar::Tensor &directGamma, const poplar::DebugNameAndId &dnai);

// What the sweeps read beside the activations: statistics of the groups ([N * G]) and of the proxy ([C]).
struct Context {
  const Shape &shape;
  const std::vector<TileRun> &runs;
  poplar::Tensor groupMean, groupInverse;
  poplar::Tensor beta, gamma;
  Statistics statistics;
};

// One vertex for a run, with the fields that all sweeps share.
poplar::VertexRef addSweep(poplar::Graph &graph, poplar::ComputeSet set, const std::string &name,
                           const TileRun &run, const Shape &shape, const poplar::Tensor &x,
                           const poplar::DebugNameAndId &dnai);
void connectContext(poplar::Graph &graph, poplar::VertexRef vertex, const TileRun &run, const Context &context);

} // namespace proxy_norm
