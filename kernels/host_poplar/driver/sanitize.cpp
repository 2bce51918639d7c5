// Runs every operator on the host, and the CPU kernel, over odd shapes and layouts: nothing is compared here, the
// sanitizers that this is built with watch. Ends with status 0 if they saw nothing.
#include "../session.hpp"

#include "../../cpu_kernel/proxy_norm_cpu.cpp"

#include <poplar/HalfFloat.hpp>

#include <cstdio>
#include <cstdlib>

namespace {

using popart::DataType;
using popart::Shape;
using popart::TensorInfo;

// Deterministic values between -2 and 2.
class Values {
public:
  float next() {
    state_ = state_ * 1664525u + 1013904223u;
    return float(state_ >> 8) / float(1 << 22) - 2.0f;
  }

private:
  std::uint32_t state_ = 1;
};

std::vector<char> bytesOf(const TensorInfo &info, Values &values) {
  std::vector<char> bytes(info.nelms() * (info.dataType() == DataType::FLOAT16 ? 2 : 4));
  for (int64_t i = 0; i < info.nelms(); ++i) {
    const float value = values.next();
    const half rounded(value);
    if (info.dataType() == DataType::FLOAT16)
      std::memcpy(bytes.data() + 2 * i, &rounded, 2);
    else
      std::memcpy(bytes.data() + 4 * i, &value, 4);
  }
  return bytes;
}

void runLowered(host::Lowered &lowered, Values &values) {
  std::vector<std::vector<char>> inputs, outputs;
  std::vector<const void *> from;
  std::vector<void *> to;
  for (const auto &input : lowered.op->hostInputs)
    inputs.push_back(bytesOf(input.second, values));
  for (const auto &output : lowered.op->hostOutputs)
    outputs.push_back(bytesOf(output.second, values));
  for (const auto &bytes : inputs)
    from.push_back(bytes.data());
  for (auto &bytes : outputs)
    to.push_back(bytes.data());
  lowered.run(from, to);
}

int runOperators() {
  Values values;
  int sessions = 0;
  for (const char *mapping : {"linear", "odd", "grouped", "scattered"})
    for (const unsigned tiles : {1u, 5u})
      for (const bool judge : {true, false})
        for (const char *activation : {"relu", "silu"})
          for (const DataType type : {DataType::FLOAT16, DataType::FLOAT})
            for (const Shape &shape : {Shape{2, 6, 3, 5}, Shape{1, 8, 1, 1}, Shape{3, 4}}) {
              const Shape channels = {shape[1]};
              host::Request request;
              request.domain = "ipu_train";
              request.type = "GroupNormProxyNormAct";
              request.inputs = {TensorInfo(type, shape)};
              request.inputs.resize(5, TensorInfo(type, channels));
              request.attributes.hostSet("activation", std::string(activation));
              request.attributes.hostSet("groups", int64_t(2));
              request.attributes.hostSet("quantiles", int64_t(judge ? 200 : 0));
              request.tiles = tiles;
              request.mapping = request.gradientMapping = mapping;
              request.judge = judge;
              host::Request stats = request, act = request;
              stats.type = "ProxyNormStats";
              stats.inputs.erase(stats.inputs.begin());
              stats.attributes = act.attributes = popart::Attributes();
              stats.attributes.hostSet("activation", std::string(activation));
              act.attributes.hostSet("activation", std::string(activation));
              act.type = "ProxyNormAct";
              act.inputs[3] = act.inputs[4] = TensorInfo(DataType::FLOAT, channels);
              for (const host::Request &each : {request, stats, act}) {
                host::Session session(each);
                runLowered(session.forward, values);
                runLowered(session.backward, values);
                session.report();
                ++sessions;
              }
            }
  return sessions;
}

template <typename T> void runKernel(int dtype, int activation, std::int64_t spatial, std::int64_t groups) {
  using F = Arithmetic<T>;
  const std::int64_t n = 3, c = 8, size = n * c * spatial;
  Values values;
  std::vector<F> parameters(4 * c), table(5 * 40 + 3), workspace(3 * n * (groups ? groups : 1) + 6 * c),
      gradients(4 * c);
  for (F &value : parameters)
    value = values.next();
  for (F &value : table)
    value = values.next();
  std::vector<T> x(size), d(size), y(size);
  std::memset(static_cast<void *>(x.data()), 0x2f, size * sizeof(T));
  std::memset(static_cast<void *>(d.data()), 0x2e, size * sizeof(T));
  const Problem problem = {n,     c,          spatial,      groups,       0.03,   1e-5,
                           dtype, activation, {16, 20, 40}, table.data(), nullptr};
  const F *p = parameters.data();
  F *g = gradients.data();
  for (const int threads : {1, 3})
    for (const void *gradient : {static_cast<const void *>(nullptr), static_cast<const void *>(d.data())})
      if (proxy_norm_run(&problem, threads, p, p + c, p + 2 * c, p + 3 * c, x.data(), gradient, y.data(),
                         workspace.data(), g, g + c, g + 2 * c, g + 3 * c) != 0)
        std::exit(1);
}

} // namespace

int main() {
  std::printf("%d operators ran on the host\n", runOperators());
  for (const std::int64_t spatial : {1, 7, 49, 5000})
    for (const std::int64_t groups : {0, 2, 8})
      for (const int activation : {0, 1}) {
        runKernel<float>(0, activation, spatial, groups);
        runKernel<Half>(1, activation, spatial, groups);
        runKernel<double>(2, activation, spatial, groups);
      }
  std::printf("the CPU kernel ran\n");
  return 0;
}
