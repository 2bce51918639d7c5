// The operators as Poplar graphs: each function adds what it needs to a graph and a program, and knows nothing of
// PopART. [C] stands for channels, G for the groups of an instance.
#pragma once

#include <poplar/DebugContext.hpp>
#include <poplar/Graph.hpp>
#include <poplar/Program.hpp>
#include <poplar/Tensor.hpp>
#include <poplar/Type.hpp>

#include <cstddef>

namespace proxy_norm {

struct ProxySettings {
  bool silu = false;
  float eps = 0.03f;        // added to the proxy's variance
  unsigned quantiles = 200; // 0: the exact expectation
  unsigned groups = 0;      // of the group norm; 0: no norm
  float normEps = 1e-5f;
  bool proxy = true; // false: norm, affine and activation alone, to compare with
};

// beta, gamma, proxy_beta and proxy_gamma, [C] each, half or float.
struct Parameters {
  poplar::Tensor beta, gamma, proxyBeta, proxyGamma;
};

// Of the activated proxy, [C] each, float: its mean m and inverse deviation s.
struct Statistics {
  poplar::Tensor mean, inverse;
};

// Adds this library's vertices to the graph, once.
void addCodelets(poplar::Graph &graph);

// A tensor for a parameter, mapped where the proxies are computed.
poplar::Tensor createParameter(poplar::Graph &graph, const poplar::Type &type, std::size_t channels,
                               const poplar::DebugNameAndId &dnai);

// A constant [C] of zeros, mapped likewise.
poplar::Tensor zerosByChannel(poplar::Graph &graph, std::size_t channels, const poplar::DebugNameAndId &dnai);

// ---- ProxyNormStats
Statistics proxyNormStats(poplar::Graph &graph, const Parameters &parameters, const ProxySettings &settings,
                          poplar::program::Sequence &program, const poplar::DebugNameAndId &dnai);
// Gradients of the parameters from those of m and s ([C], float).
Parameters proxyNormStatsGrad(poplar::Graph &graph, const Parameters &parameters, const poplar::Tensor &inverse,
                              const Statistics &gradients, const ProxySettings &settings,
                              poplar::program::Sequence &program, const poplar::DebugNameAndId &dnai);

// ---- ProxyNormAct: (phi(gamma x + beta) - m) s in one pass
poplar::Tensor proxyNormAct(poplar::Graph &graph, const poplar::Tensor &x, const poplar::Tensor &beta,
                            const poplar::Tensor &gamma, const Statistics &statistics,
                            const ProxySettings &settings, poplar::program::Sequence &program,
                            const poplar::DebugNameAndId &dnai);
struct ActGradients {
  poplar::Tensor x, beta, gamma, mean, inverse;
};
ActGradients proxyNormActGrad(poplar::Graph &graph, const poplar::Tensor &x, const poplar::Tensor &grad,
                              const poplar::Tensor &beta, const poplar::Tensor &gamma,
                              const Statistics &statistics, const ProxySettings &settings,
                              poplar::program::Sequence &program, const poplar::DebugNameAndId &dnai);

// ---- GroupNormProxyNormAct: both, fused with the group norm
struct Normalised {
  poplar::Tensor y;
  poplar::Tensor groupMean, groupInverse; // [N, G], float
  Statistics statistics;
};
Normalised groupNormProxyNormAct(poplar::Graph &graph, const poplar::Tensor &x, const Parameters &parameters,
                                 const ProxySettings &settings, poplar::program::Sequence &program,
                                 const poplar::DebugNameAndId &dnai);
struct NormGradients {
  poplar::Tensor x;
  Parameters parameters;
};
// `forward` is what the forward function returned; its y is not read.
NormGradients groupNormProxyNormActGrad(poplar::Graph &graph, const poplar::Tensor &x, const poplar::Tensor &grad,
                                        const Parameters &parameters, const Normalised &forward,
                                        const ProxySettings &settings, poplar::program::Sequence &program,
                                        const poplar::DebugNameAndId &dnai);

} // namespace proxy_norm
