// The proxies' steps: each adds vertices to compute sets that its caller orders and executes. Steps that do not wait
// for each other share a compute set, so that Proxy Norm adds none to a group norm's.
#pragma once

#include "graph.hpp"
#include "layout.hpp"

#include <poplar/Type.hpp>

#include <cstddef>
#include <string>
#include <vector>

namespace proxy_norm {

// "proxy_norm::Name<half,float,true>"
std::string vertexName(const std::string &name, const std::vector<poplar::Type> &types);
std::string vertexName(const std::string &name, const std::vector<poplar::Type> &types, bool silu);

// [C]: `value` everywhere, each channel's on its tile.
poplar::Tensor constantByChannel(poplar::Graph &graph, std::size_t channels, float value, unsigned start,
                                 const poplar::DebugNameAndId &dnai);

// m and s, or the derivatives of the proxy's moments ([C, 4]). SiLU needs a compute set before the last.
Statistics addProxy(const Site &site, poplar::ComputeSet early, poplar::ComputeSet last,
                    const Parameters &parameters, const ProxySettings &settings);
poplar::Tensor addProxySlopes(const Site &site, poplar::ComputeSet early, poplar::ComputeSet last,
                              const Parameters &parameters, const ProxySettings &settings);

// The parameters' gradients from those of m and s and the direct ones of beta and gamma, all [C], float.
Parameters addProxyGradients(const Site &site, poplar::ComputeSet set, const Parameters &parameters,
                             const poplar::Tensor &inverse, const poplar::Tensor &slopes,
                             const Statistics &gradients, const poplar::Tensor &directBeta,
                             const poplar::Tensor &directGamma);

} // namespace proxy_norm
