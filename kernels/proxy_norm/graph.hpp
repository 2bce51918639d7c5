// The operators as Poplar graphs: each function adds what it needs to a graph and a program, and knows nothing of
// PopART. [C] stands for channels, G for the groups of an instance.
#pragma once

#include <poplar/DebugContext.hpp>
#include <poplar/Graph.hpp>
#include <poplar/Program.hpp>
#include <poplar/Tensor.hpp>
#include <poplar/Type.hpp>

#include <cstddef>
#include <string>

namespace proxy_norm {

struct ProxySettings {
  bool silu = false;
  float eps = 0.03f;        // added to the proxy's variance
  unsigned quantiles = 200; // 0: the exact expectation
  unsigned groups = 0;      // of the group norm; 0: no norm
  float normEps = 1e-5f;
  bool proxy = true; // false: norm, affine and activation alone, to compare with
};

// Constants that all operators of a graph share, each on its tile.
class SharedConstants {
public:
  virtual ~SharedConstants() = default;
  virtual bool has(const std::string &name) const = 0;
  virtual poplar::Tensor get(const std::string &name) const = 0;
  virtual void keep(const std::string &name, const poplar::Tensor &constant) = 0;
};

// Where an operator is built, and under which name.
struct Site {
  poplar::Graph &graph;
  poplar::program::Sequence &program;
  poplar::DebugNameAndId dnai;
  unsigned start; // a tile to begin at with small tensors: another for each operator, so that they do not pile up
  SharedConstants &constants;

  poplar::DebugNameAndId name(const char *step) const { return {dnai, step}; }
};

// The tile that the operator of a number begins at.
unsigned startTile(const poplar::Graph &graph, long long operatorNumber);

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
poplar::Tensor createParameter(poplar::Graph &graph, const poplar::Type &type, std::size_t channels, unsigned start,
                               const poplar::DebugNameAndId &dnai);

// A constant [C] of zeros, mapped likewise.
poplar::Tensor zerosByChannel(poplar::Graph &graph, std::size_t channels, unsigned start,
                              const poplar::DebugNameAndId &dnai);

// ---- ProxyNormStats
Statistics proxyNormStats(const Site &site, const Parameters &parameters, const ProxySettings &settings);
// Gradients of the parameters from those of m and s ([C], float).
Parameters proxyNormStatsGrad(const Site &site, const Parameters &parameters, const poplar::Tensor &inverse,
                              const Statistics &gradients, const ProxySettings &settings);

// ---- ProxyNormAct: (phi(gamma x + beta) - m) s in one pass
poplar::Tensor proxyNormAct(const Site &site, const poplar::Tensor &x, const poplar::Tensor &beta,
                            const poplar::Tensor &gamma, const Statistics &statistics,
                            const ProxySettings &settings);
struct ActGradients {
  poplar::Tensor x, beta, gamma, mean, inverse;
};
ActGradients proxyNormActGrad(const Site &site, const poplar::Tensor &x, const poplar::Tensor &grad,
                              const poplar::Tensor &beta, const poplar::Tensor &gamma,
                              const Statistics &statistics, const ProxySettings &settings);

// ---- GroupNormProxyNormAct: both, fused with the group norm
struct Normalised {
  poplar::Tensor y;
  poplar::Tensor groupMean, groupInverse; // [N, G], float
  Statistics statistics;
};
Normalised groupNormProxyNormAct(const Site &site, const poplar::Tensor &x, const Parameters &parameters,
                                 const ProxySettings &settings);
struct NormGradients {
  poplar::Tensor x;
  Parameters parameters;
};
// `forward` is what the forward function returned; its y is not read.
NormGradients groupNormProxyNormActGrad(const Site &site, const poplar::Tensor &x, const poplar::Tensor &grad,
                                        const Parameters &parameters, const Normalised &forward,
                                        const ProxySettings &settings);

} // namespace proxy_norm
