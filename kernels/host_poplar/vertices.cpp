// The operators' vertices for the host: the codelet file's classes, and their fields named once more (see
// vertex_type.hpp). Their code is what the codelet file itself instantiates, as on a device: one that is forgotten
// there leaves this library without it, and it does not load.
#define PROXY_NORM_CLASSES_ONLY
#include "../proxy_norm/codelets.cpp"
#include "src/vertex_type.hpp"

#include <string>

namespace proxy_norm {

#define OF_PARAMETERS(P)                                                                                          \
  extern template class ReluProxy<P>;                                                                             \
  extern template class ReluSlopes<P>;                                                                            \
  extern template class GaussianReluProxy<P>;                                                                     \
  extern template class GaussianReluSlopes<P>;                                                                    \
  extern template class SiluProxySums<P, false>;                                                                  \
  extern template class SiluProxySums<P, true>;                                                                   \
  extern template class SiluProxy<P>;                                                                             \
  extern template class ProxyGradients<P>;
#define OF_BOTH(T, P)                                                                                             \
  extern template class FinishChannels<T, P>;                                                                     \
  extern template class ReluCoefficients<T, P>;                                                                   \
  extern template class SiluCoefficients<T, P>;                                                                   \
  extern template class BackwardCoefficients<T, P, false>;                                                        \
  extern template class BackwardCoefficients<T, P, true>;
#define OF_ACTIVATIONS(T)                                                                                         \
  extern template class GroupSums<T>;                                                                             \
  extern template class FinishStatistics<T>;                                                                      \
  extern template class FinishGroups<T>;                                                                          \
  extern template class ReluForward<T>;                                                                           \
  extern template class SiluForward<T>;                                                                           \
  extern template class BackwardSums<T, false>;                                                                   \
  extern template class BackwardSums<T, true>;                                                                    \
  extern template class BackwardInput<T, false>;                                                                  \
  extern template class BackwardInput<T, true>;
OF_PARAMETERS(half)
OF_PARAMETERS(float)
OF_BOTH(half, half)
OF_BOTH(half, float)
OF_BOTH(float, float)
OF_ACTIVATIONS(half)
OF_ACTIVATIONS(float)

} // namespace proxy_norm

namespace {

using namespace proxy_norm;
using poplar::host::Registration;

const char *const kFile = "codelets.cpp";

template <typename T> std::string nameOf() { return std::is_same<T, half>::value ? "half" : "float"; }
template <typename T, typename P> std::string namesOf() { return nameOf<T>() + "," + nameOf<P>(); }

template <typename V> void addProxyParameters(Registration<V> &fields) {
  fields("beta", &V::beta)("gamma", &V::gamma)("proxyBeta", &V::proxyBeta)("proxyGamma", &V::proxyGamma);
}

template <typename P, bool Slopes> void registerSiluSums() {
  using V = SiluProxySums<P, Slopes>;
  Registration<V> fields("proxy_norm::SiluProxySums<" + nameOf<P>() + (Slopes ? ",true>" : ",false>"), kFile);
  addProxyParameters(fields);
  fields("points", &V::points)("weights", &V::weights)("sums", &V::sums)("rows", &V::rows)("slices", &V::slices);
  fields("count0", &V::count0)("count1", &V::count1)("count2", &V::count2);
}

template <typename P> void registerParameterVertices() {
  registerSiluSums<P, false>();
  registerSiluSums<P, true>();
  const std::string type = "<" + nameOf<P>() + ">";
  {
    using V = ReluProxy<P>;
    Registration<V> fields("proxy_norm::ReluProxy" + type, kFile);
    addProxyParameters(fields);
    fields("table", &V::table)("mean", &V::mean)("inverse", &V::inverse);
    fields("rows", &V::rows)("points", &V::points)("eps", &V::eps);
  }
  {
    using V = GaussianReluProxy<P>;
    Registration<V> fields("proxy_norm::GaussianReluProxy" + type, kFile);
    addProxyParameters(fields);
    fields("mean", &V::mean)("inverse", &V::inverse)("rows", &V::rows)("eps", &V::eps);
  }
  {
    using V = ReluSlopes<P>;
    Registration<V> fields("proxy_norm::ReluSlopes" + type, kFile);
    addProxyParameters(fields);
    fields("table", &V::table)("slopes", &V::slopes)("rows", &V::rows)("points", &V::points);
  }
  {
    using V = GaussianReluSlopes<P>;
    Registration<V> fields("proxy_norm::GaussianReluSlopes" + type, kFile);
    addProxyParameters(fields);
    fields("slopes", &V::slopes)("rows", &V::rows);
  }
  {
    using V = SiluProxy<P>;
    Registration<V> fields("proxy_norm::SiluProxy" + type, kFile);
    fields("beta", &V::beta)("gamma", &V::gamma)("proxyBeta", &V::proxyBeta)("sums", &V::sums);
    fields("mean", &V::mean)("inverse", &V::inverse)("rows", &V::rows)("slices", &V::slices)("eps", &V::eps);
  }
  {
    using V = ProxyGradients<P>;
    Registration<V> fields("proxy_norm::ProxyGradients" + type, kFile);
    fields("gamma", &V::gamma)("proxyBeta", &V::proxyBeta)("proxyGamma", &V::proxyGamma);
    fields("inverse", &V::inverse)("slopes", &V::slopes)("gradMean", &V::gradMean)("gradInverse", &V::gradInverse);
    fields("directBeta", &V::directBeta)("directGamma", &V::directGamma);
    fields("gradBeta", &V::gradBeta)("gradGamma", &V::gradGamma)("gradProxyBeta", &V::gradProxyBeta);
    fields("gradProxyGamma", &V::gradProxyGamma)("rows", &V::rows);
  }
}

// The fields that vertices of coefficients have.
template <typename V> void addRows(Registration<V> &fields) {
  fields("groupMean", &V::groupMean)("groupInverse", &V::groupInverse)("inverse", &V::inverse);
  fields("beta", &V::beta)("gamma", &V::gamma)("rows", &V::rows)("shift", &V::shift);
}

template <typename T, typename P, bool Silu> void registerBackwardCoefficients() {
  using V = BackwardCoefficients<T, P, Silu>;
  Registration<V> fields("proxy_norm::BackwardCoefficients<" + namesOf<T, P>() + (Silu ? ",true>" : ",false>"),
                         kFile);
  addRows(fields);
  fields("scale", &V::scale)("bend", &V::bend)("turn", &V::turn)("direct", &V::direct);
}

template <typename T, typename P> void registerVerticesOfBoth() {
  const std::string types = "<" + namesOf<T, P>() + ">";
  registerBackwardCoefficients<T, P, false>();
  registerBackwardCoefficients<T, P, true>();
  {
    using V = ReluCoefficients<T, P>;
    Registration<V> fields("proxy_norm::ReluCoefficients" + types, kFile);
    addRows(fields);
    fields("mean", &V::mean)("slope", &V::slope)("offset", &V::offset)("lift", &V::lift);
  }
  {
    using V = SiluCoefficients<T, P>;
    Registration<V> fields("proxy_norm::SiluCoefficients" + types, kFile);
    addRows(fields);
    fields("mean", &V::mean)("slope", &V::slope)("offset", &V::offset)("lift", &V::lift)("scale", &V::scale);
  }
  {
    using V = FinishChannels<T, P>; // of parameters of type T and their gradients of type P
    Registration<V> fields("proxy_norm::FinishChannels" + types, kFile);
    fields("partials", &V::partials)("mean", &V::mean)("inverse", &V::inverse);
    fields("beta", &V::beta)("gamma", &V::gamma)("gradBeta", &V::gradBeta)("gradGamma", &V::gradGamma);
    fields("gradMean", &V::gradMean)("gradInverse", &V::gradInverse)("rows", &V::rows)("parts", &V::parts);
    fields("silu", &V::silu);
  }
}

// The fields that all passes over the activations have.
template <typename V> void addPass(Registration<V> &fields) {
  fields("x", &V::x)("pieces", &V::pieces)("length", &V::length)("pieceCount", &V::pieceCount);
}

template <typename T, bool Silu> void registerBackward() {
  const std::string types = "<" + nameOf<T>() + (Silu ? ",true>" : ",false>");
  const auto addCommon = [](auto &fields, auto *vertex) {
    using V = std::remove_pointer_t<decltype(vertex)>;
    addPass(fields);
    fields("shift", &V::shift)("scale", &V::scale)("turn", &V::turn)("direct", &V::direct)("gradX", &V::gradX);
  };
  {
    using V = BackwardSums<T, Silu>;
    Registration<V> fields("proxy_norm::BackwardSums" + types, kFile);
    addCommon(fields, static_cast<V *>(nullptr));
    fields("grad", &V::grad)("bend", &V::bend);
    fields("channelOfRow", &V::channelOfRow)("groupOfRow", &V::groupOfRow);
    fields("groupMean", &V::groupMean)("groupInverse", &V::groupInverse);
    fields("channelPartials", &V::channelPartials)("groupPartials", &V::groupPartials);
    fields("groups", &V::groups)("channels", &V::channels);
  }
  {
    using V = BackwardInput<T, Silu>;
    Registration<V> fields("proxy_norm::BackwardInput" + types, kFile);
    addCommon(fields, static_cast<V *>(nullptr));
    fields("byU", &V::byU)("constant", &V::constant);
  }
}

template <typename T> void registerVerticesOfActivations() {
  const std::string type = "<" + nameOf<T>() + ">";
  registerBackward<T, false>();
  registerBackward<T, true>();
  {
    using V = GroupSums<T>;
    Registration<V> fields("proxy_norm::GroupSums" + type, kFile);
    addPass(fields);
    fields("groupOfRow", &V::groupOfRow)("samples", &V::samples)("partials", &V::partials);
    fields("groups", &V::groups)("sampleCount", &V::sampleCount);
  }
  {
    using V = FinishStatistics<T>;
    Registration<V> fields("proxy_norm::FinishStatistics" + type, kFile);
    fields("partials", &V::partials)("samples", &V::samples)("mean", &V::mean)("inverse", &V::inverse);
    fields("rows", &V::rows)("parts", &V::parts)("sampleCount", &V::sampleCount);
    fields("share", &V::share)("eps", &V::eps);
  }
  {
    using V = FinishGroups<T>;
    Registration<V> fields("proxy_norm::FinishGroups" + type, kFile);
    fields("partials", &V::partials)("groupMean", &V::groupMean)("groupInverse", &V::groupInverse);
    fields("byU", &V::byU)("constant", &V::constant)("rows", &V::rows)("parts", &V::parts)("share", &V::share);
  }
  {
    using V = ReluForward<T>;
    Registration<V> fields("proxy_norm::ReluForward" + type, kFile);
    addPass(fields);
    fields("shift", &V::shift)("slope", &V::slope)("offset", &V::offset)("lift", &V::lift)("out", &V::out);
    fields("checked", &V::checked);
  }
  {
    using V = SiluForward<T>;
    Registration<V> fields("proxy_norm::SiluForward" + type, kFile);
    addPass(fields);
    fields("shift", &V::shift)("slope", &V::slope)("offset", &V::offset)("lift", &V::lift)("out", &V::out);
    fields("scale", &V::scale);
  }
}

const bool registered = [] {
  registerParameterVertices<half>();
  registerParameterVertices<float>();
  registerVerticesOfBoth<half, half>();
  registerVerticesOfBoth<half, float>();
  registerVerticesOfBoth<float, float>();
  registerVerticesOfActivations<half>();
  registerVerticesOfActivations<float>();
  Registration<SumParts> sum("proxy_norm::SumParts", kFile);
  sum("in", &SumParts::in)("out", &SumParts::out)("parts", &SumParts::parts)("count", &SumParts::count);
  Registration<SiluSlopes> slopes("proxy_norm::SiluSlopes", kFile);
  slopes("sums", &SiluSlopes::sums)("slopes", &SiluSlopes::slopes)("rows", &SiluSlopes::rows);
  slopes("slices", &SiluSlopes::slices);
  return true;
}();

} // namespace
