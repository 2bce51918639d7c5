// The operators' vertices for the host: the codelet file itself, and its fields named once more (see
// vertex_type.hpp).
#include "../proxy_norm/codelets.cpp"
#include "src/vertex_type.hpp"

#include <string>

namespace {

using namespace proxy_norm;
using poplar::host::Registration;

const char *const kFile = "codelets.cpp";

template <typename T> std::string nameOf() { return std::is_same<T, half>::value ? "half" : "float"; }

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
    using V = ReluSlopes<P>;
    Registration<V> fields("proxy_norm::ReluSlopes" + type, kFile);
    addProxyParameters(fields);
    fields("table", &V::table)("slopes", &V::slopes)("rows", &V::rows)("points", &V::points);
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
  {
    using V = FinishChannels<P>;
    Registration<V> fields("proxy_norm::FinishChannels" + type, kFile);
    fields("partials", &V::partials)("mean", &V::mean)("inverse", &V::inverse);
    fields("gradBeta", &V::gradBeta)("gradGamma", &V::gradGamma)("gradMean", &V::gradMean);
    fields("gradInverse", &V::gradInverse)("rows", &V::rows)("parts", &V::parts);
  }
}

template <typename T> void registerStatisticsVertices() {
  const std::string type = "<" + nameOf<T>() + ">";
  {
    using V = GroupSums<T>;
    Registration<V> fields("proxy_norm::GroupSums" + type, kFile);
    fields("x", &V::x)("pieces", &V::pieces)("shift", &V::shift)("partials", &V::partials);
    fields("length", &V::length)("pieceCount", &V::pieceCount)("groups", &V::groups)("perGroup", &V::perGroup);
  }
  {
    using V = FinishStatistics<T>;
    Registration<V> fields("proxy_norm::FinishStatistics" + type, kFile);
    fields("partials", &V::partials)("shift", &V::shift)("mean", &V::mean)("inverse", &V::inverse);
    fields("rows", &V::rows)("parts", &V::parts)("share", &V::share)("eps", &V::eps);
  }
}

// The fields that all passes over the activations have.
template <typename V> void addPass(Registration<V> &fields) {
  fields("x", &V::x)("pieces", &V::pieces)("groupMean", &V::groupMean)("groupInverse", &V::groupInverse);
  fields("beta", &V::beta)("gamma", &V::gamma)("mean", &V::mean)("inverse", &V::inverse);
  fields("length", &V::length)("pieceCount", &V::pieceCount)("perGroup", &V::perGroup);
}

template <typename T, typename P, bool Silu> void registerPasses() {
  const std::string types = "<" + nameOf<T>() + "," + nameOf<P>() + (Silu ? ",true>" : ",false>");
  {
    using V = ProxyNormForward<T, P, Silu>;
    Registration<V> fields("proxy_norm::ProxyNormForward" + types, kFile);
    addPass(fields);
    fields("out", &V::out);
  }
  {
    using V = BackwardSums<T, P, Silu>;
    Registration<V> fields("proxy_norm::BackwardSums" + types, kFile);
    addPass(fields);
    fields("grad", &V::grad)("channelPartials", &V::channelPartials)("groupPartials", &V::groupPartials);
    fields("groups", &V::groups)("channels", &V::channels);
  }
  {
    using V = BackwardInput<T, P, Silu>;
    Registration<V> fields("proxy_norm::BackwardInput" + types, kFile);
    addPass(fields);
    fields("grad", &V::grad)("groupSums", &V::groupSums)("gradX", &V::gradX)("share", &V::share);
  }
}

const bool registered = [] {
  registerParameterVertices<half>();
  registerParameterVertices<float>();
  registerStatisticsVertices<half>();
  registerStatisticsVertices<float>();
  registerPasses<half, half, false>();
  registerPasses<half, half, true>();
  registerPasses<half, float, false>();
  registerPasses<half, float, true>();
  registerPasses<float, float, false>();
  registerPasses<float, float, true>();
  Registration<SumParts> sum("proxy_norm::SumParts", kFile);
  sum("in", &SumParts::in)("out", &SumParts::out)("parts", &SumParts::parts)("count", &SumParts::count);
  Registration<SiluSlopes> slopes("proxy_norm::SiluSlopes", kFile);
  slopes("sums", &SiluSlopes::sums)("slopes", &SiluSlopes::slopes)("rows", &SiluSlopes::rows);
  slopes("slices", &SiluSlopes::slices);
  return true;
}();

} // namespace
