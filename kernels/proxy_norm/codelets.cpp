// The vertices of the Proxy Norm operators. All are MultiVertex: compute(worker) runs on the six workers of a
// tile, which share the fields and must never store to one 32-bit word. Sums and what belongs to channels
// is float in arithmetic, elements on an IPU keep their type (ipu_vectors.hpp). The arithmetic lives
// in proxy_norm_math.hpp, sweep.hpp and sweep_tasks.hpp; T is the type of activations, P that of parameters.
//
// The sweeps that sum keep their sums in InOut fields, in the part that is a worker's own: it writes zeros there
// first, then reads and adds. The graph says WriteUndef before, so that nothing keeps the old contents alive.
#include "pass_vertices.hpp"
#include "proxy_vertices.hpp"

namespace proxy_norm {

// ---- Every combination that the lowerings name: popc finds only what is instantiated ---------------------------
// (The host includes this file once more to list the vertices' fields, and then only wants the classes.)

#ifndef PROXY_NORM_CLASSES_ONLY
template class ReluProxy<half>;
template class ReluProxy<float>;
template class ReluSlopes<half>;
template class ReluSlopes<float>;
template class GaussianReluProxy<half>;
template class GaussianReluProxy<float>;
template class GaussianReluSlopes<half>;
template class GaussianReluSlopes<float>;
template class SiluProxySums<half, false>;
template class SiluProxySums<half, true>;
template class SiluProxySums<float, false>;
template class SiluProxySums<float, true>;
template class SiluProxy<half>;
template class SiluProxy<float>;
template class ProxyGradients<half>;
template class ProxyGradients<float>;
template class GroupSums<half>;
template class GroupSums<float>;
template class FinishStatistics<half>;
template class FinishStatistics<float>;
template class FinishGroups<half>;
template class FinishGroups<float>;
template class FinishChannels<half, half>;
template class FinishChannels<half, float>;
template class FinishChannels<float, float>;
template class ReluCoefficients<half, half>;
template class ReluCoefficients<half, float>;
template class ReluCoefficients<float, float>;
template class SiluCoefficients<half, half>;
template class SiluCoefficients<half, float>;
template class SiluCoefficients<float, float>;
template class BackwardCoefficients<half, half, false>;
template class BackwardCoefficients<half, half, true>;
template class BackwardCoefficients<half, float, false>;
template class BackwardCoefficients<half, float, true>;
template class BackwardCoefficients<float, float, false>;
template class BackwardCoefficients<float, float, true>;
template class ReluForward<half>;
template class ReluForward<float>;
template class SiluForward<half>;
template class SiluForward<float>;
template class BackwardSums<half, false>;
template class BackwardSums<half, true>;
template class BackwardSums<float, false>;
template class BackwardSums<float, true>;
template class BackwardInput<half, false>;
template class BackwardInput<half, true>;
template class BackwardInput<float, false>;
template class BackwardInput<float, true>;
#endif

} // namespace proxy_norm
