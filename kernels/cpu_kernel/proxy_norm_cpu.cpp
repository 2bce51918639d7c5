// Group norm, affine, activation and Proxy Norm of a contiguous [N, C, S] tensor in one pass over memory each
// way, called through a C interface (ctypes), so that it depends on no version of PyTorch.
#include "pass.hpp"

#include <new>

namespace {

using namespace proxy_norm;

template <Activation A, typename T> void runAs(const Problem &p, const Tensors &t, const Threads &threads) {
  const Pass<A, T> pass(p, t, threads);
  if (t.d == nullptr)
    pass.forward();
  else
    pass.backward();
}

template <Activation A> bool runType(const Problem &p, const Tensors &t, const Threads &threads) {
  switch (p.dtype) {
  case 0:
    runAs<A, float>(p, t, threads);
    return true;
  case 1:
    runAs<A, Half>(p, t, threads);
    return true;
  case 2:
    runAs<A, double>(p, t, threads);
    return true;
  }
  return false;
}

bool runActivation(const Problem &p, const Tensors &t, const Threads &threads) {
  switch (static_cast<Activation>(p.activation)) {
  case Activation::Relu:
    return runType<Activation::Relu>(p, t, threads);
  case Activation::Silu:
    return runType<Activation::Silu>(p, t, threads);
  }
  return false;
}

} // namespace

// Forward (d null: out is y) or backward (out is dx, and dBeta to dProxyGamma [channels] are the parameters'
// gradients). dtype, of x, y, d and dx: 0 float, 1 half, 2 double; everything else is float, or
// double for double. workspace [3 * instances * max(groups, 1) + 6 * channels] is written forward and read
// backward. Returns 0, or 1 for a dtype or activation that does not exist, or 2 when memory ran out.
extern "C" int proxy_norm_run(const Problem *p, int threads, const void *beta, const void *gamma,
                              const void *proxyBeta, const void *proxyGamma, const void *x, const void *d,
                              void *out, void *workspace, void *dBeta, void *dGamma, void *dProxyBeta,
                              void *dProxyGamma) {
  try {
    const Tensors tensors = {beta, gamma, proxyBeta, proxyGamma, x,          d,
                             out,  workspace, dBeta, dGamma, dProxyBeta, dProxyGamma};
    return runActivation(*p, tensors, {threads, p->region}) ? 0 : 1;
  } catch (const std::bad_alloc &) {
    return 2;
  }
}
