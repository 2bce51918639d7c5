// Graphs with one fault each, to see that the host notices, and one without.
#include "../../kernels/host_poplar/src/vertex_type.hpp"

#include "../../kernels/host_poplar/session.hpp"

#include <popart/popx/opxmanager.hpp>
#include <popart/shapeinference.hpp>
#include <poplar/Engine.hpp>

#include <functional>
#include <map>

namespace faults {

template <typename T> using In = poplar::Input<poplar::Vector<T, poplar::VectorLayout::ONE_PTR, 8>>;
template <typename T> using Out = poplar::Output<poplar::Vector<T, poplar::VectorLayout::ONE_PTR, 8>>;
template <typename T> using InOut = poplar::InOut<poplar::Vector<T, poplar::VectorLayout::ONE_PTR, 8>>;

// What an innocent vertex does: doubles, pairs of halves to a worker.
class Doubles : public poplar::MultiVertex {
public:
  In<half> in;
  Out<half> out;
  unsigned count;
  void compute(unsigned worker) {
    for (unsigned i = 2 * worker; i < count; i += 2 * numWorkers())
      for (unsigned j = i; j < i + 2 && j < count; ++j)
        out[j] = half(2.0f * float(in[j]));
  }
};

// Neighbouring halves to neighbouring workers.
class StridedHalves : public poplar::MultiVertex {
public:
  In<half> in;
  Out<half> out;
  unsigned count;
  void compute(unsigned worker) {
    for (unsigned i = worker; i < count; i += numWorkers())
      out[i] = half(2.0f * float(in[i]));
  }
};

// Every worker writes everything, the same values even.
class Everybody : public poplar::MultiVertex {
public:
  In<half> in;
  Out<half> out;
  unsigned count;
  void compute(unsigned) {
    for (unsigned i = 0; i < count; ++i)
      out[i] = in[i];
  }
};

class Accumulates : public poplar::Vertex {
public:
  In<half> in;
  Out<half> out;
  unsigned count;
  void compute() {
    for (unsigned i = 0; i < count; ++i)
      out[i] = half(float(out[i]) + float(in[i]));
  }
};

class Overwrites : public poplar::Vertex {
public:
  In<half> in;
  Out<half> out;
  unsigned count;
  void compute() {
    for (unsigned i = 0; i < count; ++i)
      out[i] = in[i];
    const_cast<half &>(in[0]) = half(float(in[0]) + 1.0f);
  }
};

class Overruns : public poplar::Vertex {
public:
  In<half> in;
  Out<half> out;
  unsigned count;
  void compute() {
    for (unsigned i = 0; i <= count; ++i)
      out[i] = in[i < count ? i : 0];
  }
};

// A whole vector more than there is, of which it keeps nothing but the sign of a sum.
class ReadsOn : public poplar::Vertex {
public:
  In<half> in;
  Out<half> out;
  unsigned count;
  void compute() {
    float sum = 0;
    for (unsigned i = 0; i < count + 8; ++i)
      sum += float(in[i]);
    for (unsigned i = 0; i < count; ++i)
      out[i] = half(sum > 0 ? 2.0f * float(in[i]) : 0.0f);
  }
};

// Adds to what it finds, or, with a field that says so, to zeros that it puts there first.
template <bool Zeros> class AddsTo : public poplar::Vertex {
public:
  In<half> in;
  InOut<half> out;
  unsigned count;
  void compute() {
    for (unsigned i = 0; i < count; ++i)
      out[i] = half((Zeros ? 0.0f : float(out[i])) + float(in[i]));
    for (unsigned i = 0; i < count; ++i)
      out[i] = half(float(out[i]) + float(in[i]));
  }
};

class ForgetsTheLast : public poplar::Vertex {
public:
  In<half> in;
  Out<half> out;
  unsigned count;
  void compute() {
    for (unsigned i = 0; i + 1 < count; ++i)
      out[i] = in[i];
  }
};

// Fields that need no alignment beyond their type's, so that a run may begin in the middle of a word.
class DoublesAnywhere : public poplar::Vertex {
public:
  poplar::Input<poplar::Vector<half, poplar::VectorLayout::SPAN>> in;
  poplar::Output<poplar::Vector<half, poplar::VectorLayout::SPAN>> out;
  void compute() {
    for (unsigned i = 0; i < in.size(); ++i)
      out[i] = half(2.0f * float(in[i]));
  }
};

template <typename V> void registerVertex(const char *name) {
  poplar::host::Registration<V> fields(name, "faults.cpp");
  fields("in", &V::in)("out", &V::out)("count", &V::count);
}

const bool registered = [] {
  registerVertex<Doubles>("Doubles");
  registerVertex<StridedHalves>("StridedHalves");
  registerVertex<Everybody>("Everybody");
  registerVertex<Accumulates>("Accumulates");
  registerVertex<Overwrites>("Overwrites");
  registerVertex<Overruns>("Overruns");
  registerVertex<ForgetsTheLast>("ForgetsTheLast");
  registerVertex<ReadsOn>("ReadsOn");
  registerVertex<AddsTo<true>>("AddsToZeros");
  registerVertex<AddsTo<false>>("AddsTo");
  poplar::host::Registration<DoublesAnywhere> fields("DoublesAnywhere", "faults.cpp");
  fields("in", &DoublesAnywhere::in)("out", &DoublesAnywhere::out);
  return true;
}();

using poplar::HALF;
using poplar::Tensor;

// A graph of two tiles with an input of 24 halves on the first and an output laid out alike.
struct Setting {
  explicit Setting(const char *codelets) : graph(poplar::Target::createIPUTarget(1, 2, "ipu2")) {
    graph.addCodelets(codelets);
    in = graph.addVariable(HALF, {24}, "in");
    graph.setTileMapping(in, 0);
    out = graph.clone(in, "out");
    set = graph.addComputeSet("compute");
    program.add(poplar::program::Execute(set));
  }

  poplar::VertexRef add(const char *type, const Tensor &from, const Tensor &to, unsigned tile = 0) {
    const poplar::VertexRef vertex = graph.addVertex(set, type, {{"in", from}, {"out", to}});
    graph.setInitialValue(vertex["count"], unsigned(from.numElements()));
    graph.setTileMapping(vertex, tile);
    return vertex;
  }

  void run(bool write = true) {
    poplar::Engine engine(graph, program);
    std::vector<half> values(24);
    for (int i = 0; i < 24; ++i)
      values[i] = half(float(i) / 4);
    if (write)
      engine.writeTensor(in, values.data());
    engine.run();
    std::vector<half> found(24);
    engine.readTensor(out, found.data());
    for (int i = 0; i < 24; ++i)
      if (float(found[i]) != 2 * float(values[i]))
        throw poplar::poplar_error("wrong result");
  }

  poplar::Graph graph;
  poplar::program::Sequence program;
  Tensor in, out;
  poplar::ComputeSet set;
};

// Two vertices on one tile, the second one from element `at` on.
void splitAt(Setting &setting, std::size_t at) {
  const auto add = [&](std::size_t begin, std::size_t end) {
    const poplar::VertexRef vertex =
        setting.graph.addVertex(setting.set, "DoublesAnywhere",
                                {{"in", setting.in.slice(begin, end)}, {"out", setting.out.slice(begin, end)}});
    setting.graph.setTileMapping(vertex, 0);
  };
  add(0, at);
  add(at, 24);
  setting.run();
}

using Case = std::function<void(Setting &)>;

const std::map<std::string, Case> &cases() {
  static const std::map<std::string, Case> all = {
      {"none", [](Setting &s) { s.add("Doubles", s.in, s.out), s.run(); }},
      {"none, on another tile", [](Setting &s) { s.add("Doubles", s.in, s.out, 1), s.run(); }},
      {"none, two vertices",
       [](Setting &s) {
         s.add("Doubles", s.in.slice(0, 8), s.out.slice(0, 8));
         s.add("Doubles", s.in.slice(8, 24), s.out.slice(8, 24));
         s.run();
       }},
      {"none, split between words", [](Setting &s) { splitAt(s, 6); }},
      {"two vertices share a word", [](Setting &s) { splitAt(s, 5); }},
      {"none, an InOut without contents", [](Setting &s) { s.add("AddsToZeros", s.in, s.out), s.run(); }},
      {"none, an InOut with contents",
       [](Setting &s) {
         const Tensor sum = s.graph.clone(s.in, "sum"), zero = s.graph.addConstant<float>(HALF, {24}, 0.0f, "zero");
         s.graph.setTileMapping(zero, 0);
         poplar::program::Sequence program;
         program.add(poplar::program::Copy(zero, s.out));
         program.add(poplar::program::Execute(s.set));
         s.add("AddsTo", s.in, s.out);
         s.program = program;
         s.run();
       }},
      {"reads an InOut that nothing wrote", [](Setting &s) { s.add("AddsTo", s.in, s.out), s.run(); }},
      {"reads beyond the end", [](Setting &s) { s.add("ReadsOn", s.in, s.out), s.run(); }},
      {"workers share a word", [](Setting &s) { s.add("StridedHalves", s.in, s.out), s.run(); }},
      {"workers write the same", [](Setting &s) { s.add("Everybody", s.in, s.out), s.run(); }},
      {"reads its output", [](Setting &s) { s.add("Accumulates", s.in, s.out), s.run(); }},
      {"writes its input", [](Setting &s) { s.add("Overwrites", s.in, s.out), s.run(); }},
      {"writes beyond the end", [](Setting &s) { s.add("Overruns", s.in, s.out), s.run(); }},
      {"leaves an element unwritten", [](Setting &s) { s.add("ForgetsTheLast", s.in, s.out), s.run(); }},
      {"two vertices write an element",
       [](Setting &s) {
         s.add("Doubles", s.in.slice(0, 16), s.out.slice(0, 16));
         s.add("Doubles", s.in.slice(8, 24), s.out.slice(8, 24), 1);
         s.run();
       }},
      {"a vertex reads what another writes",
       [](Setting &s) {
         s.add("Doubles", s.in, s.out);
         const Tensor other = s.graph.clone(s.in, "other");
         s.add("Doubles", s.out, other, 1);
         s.run();
       }},
      {"works in place on a read-only input",
       [](Setting &s) {
         s.graph.hostSetReadOnly(s.in);
         s.add("Doubles", s.in, s.in);
       }},
      {"copies to a constant",
       [](Setting &s) {
         const Tensor constant = s.graph.addConstant<float>(HALF, {24}, 1.0f, "one");
         s.graph.setTileMapping(constant, 0);
         s.add("Doubles", s.in, s.out);
         s.program.add(poplar::program::Copy(s.out, constant));
         s.run();
       }},
      {"a tensor without a tile",
       [](Setting &s) {
         const Tensor lost = s.graph.addVariable(HALF, {24}, "lost");
         s.add("Doubles", s.in, lost);
         s.run();
       }},
      {"a vertex without a tile",
       [](Setting &s) {
         const poplar::VertexRef vertex = s.graph.addVertex(s.set, "Doubles", {{"in", s.in}, {"out", s.out}});
         s.graph.setInitialValue(vertex["count"], 24u);
         s.run();
       }},
      {"a tile that does not exist", [](Setting &s) { s.add("Doubles", s.in, s.out, 2); }},
      {"an unconnected field",
       [](Setting &s) {
         const poplar::VertexRef vertex = s.graph.addVertex(s.set, "Doubles", {{"in", s.in}});
         s.graph.setInitialValue(vertex["count"], 24u);
         s.graph.setTileMapping(vertex, 0);
         s.run();
       }},
      {"a field without a value",
       [](Setting &s) {
         s.graph.setTileMapping(s.graph.addVertex(s.set, "Doubles", {{"in", s.in}, {"out", s.out}}), 0);
         s.run();
       }},
      {"a field of another name",
       [](Setting &s) { s.graph.connect(s.add("Doubles", s.in, s.out)["input"], s.in); }},
      {"a tensor of another type",
       [](Setting &s) {
         const Tensor floats = s.graph.clone(poplar::FLOAT, s.in, "floats");
         s.add("Doubles", floats, s.out);
       }},
      {"an unknown codelet", [](Setting &s) { s.add("Triples", s.in, s.out); }},
      {"codelets that were not added",
       [](Setting &) {
         poplar::Graph bare(poplar::Target::createIPUTarget(1, 2, "ipu2"));
         bare.addVertex(bare.addComputeSet("compute"), "Doubles");
       }},
      {"codelets that cannot be read", [](Setting &s) { s.graph.addCodelets("no/such/file.cpp"); }},
      {"reads what nothing wrote", [](Setting &s) { s.add("Doubles", s.in, s.out), s.run(false); }},
      {"reads after WriteUndef",
       [](Setting &s) {
         const poplar::ComputeSet second = s.graph.addComputeSet("second");
         const Tensor other = s.graph.clone(s.in, "other");
         s.add("Doubles", s.in, s.out);
         const poplar::VertexRef vertex = s.graph.addVertex(second, "Doubles", {{"in", s.out}, {"out", other}});
         s.graph.setInitialValue(vertex["count"], 24u);
         s.graph.setTileMapping(vertex, 0);
         s.program.add(poplar::program::WriteUndef(s.out));
         s.program.add(poplar::program::Execute(second));
         s.run();
       }},
      {"writes an element twice",
       [](Setting &s) {
         const std::vector<Tensor> twice = {s.out.slice(0, 12), s.out.slice(0, 12)};
         s.add("Doubles", s.in, poplar::concat(twice));
       }},
  };
  return all;
}

} // namespace faults

// ---- Operators with one fault each, chosen by an attribute

namespace faults {

using popart::TensorInfo;

class FaultyOp : public popart::Op {
public:
  FaultyOp(const popart::OperatorIdentifier &id, const Settings &settings, std::string fault)
      : popart::Op(id, settings), fault(std::move(fault)) {}
  std::unique_ptr<popart::Op> clone() const final { return std::make_unique<FaultyOp>(*this); }
  float getSubgraphValue() const final { return getLowSubgraphValue(); }
  void setup() final { outInfo(0) = outInfo(1) = inInfo(0); }
  std::string fault;
};

const popart::OperatorIdentifier &faultyId() {
  static const popart::OperatorIdentifier id{"faults", "Faulty", 1, {1, 1}, 2};
  return id;
}

class FaultyOpx : public popart::popx::Opx {
public:
  using popart::popx::Opx::Opx;
  void grow(poplar::program::Sequence &program) const final {
    const Tensor x = getInTensor(0), y = graph().clone(x, {getDebugNameAndId(), "y"});
    program.add(poplar::program::Copy(x, y));
    setOutTensor(0, y);
    const std::string fault = getOp<FaultyOp>().fault;
    const Tensor other = graph().clone(x, {getDebugNameAndId(), "other"});
    program.add(poplar::program::Copy(x, other));
    setOutTensor(1, fault == "twins" ? y : fault == "input" ? x : other);
  }
};

const popart::OpDefinition definition(popart::OpDefinition::Inputs({{"x", {popart::DataType::FLOAT}}}),
                                      popart::OpDefinition::Outputs({{"y", {popart::DataType::FLOAT}},
                                                                     {"other", {popart::DataType::FLOAT}}}),
                                      popart::OpDefinition::Attributes({{"fault", {"*"}}}));
const popart::OpManager::OpFactoryFunc factory =
    [](const popart::OpCreatorInfo &info) -> std::unique_ptr<popart::Op> {
  return std::make_unique<FaultyOp>(info.opid, info.settings, info.attributes.getAttribute<std::string>("fault"));
};
const popart::OpCreator<FaultyOp> creator(popart::OpDefinitions({{faultyId(), definition}}), factory);
const popart::RegisterShapeInferenceFunction shapes(faultyId(), [](popart::ShapeInferenceContext &context) {
  const std::string fault = context.getAttribute<std::string>("fault");
  if (fault == "throws" && context.inInfo(0).dim(0) == 0) // of an unknown shape there is no dimension 0
    return;
  const bool known = context.hasInputShape(0);
  if (!known && fault != "invents")
    return;
  context.outInfo(0) = context.outInfo(1) = known ? context.inInfo(0) : TensorInfo(popart::DataType::FLOAT, {7});
});
const popart::popx::OpxCreator<FaultyOpx> opx(faultyId());

void build(const std::string &fault) {
  host::Request request;
  request.domain = "faults";
  request.type = "Faulty";
  request.inputs = {TensorInfo(popart::DataType::FLOAT, {24})};
  request.attributes.hostSet("fault", fault);
  host::Session session(request);
}

} // namespace faults

// Builds an operator with a fault; as below.
extern "C" const char *build_operator(const char *fault) {
  static std::string message;
  message.clear();
  try {
    faults::build(fault);
  } catch (const std::exception &exception) {
    message = exception.what();
  }
  return message.c_str();
}

// Runs a case; the message of what was thrown, or "" for nothing. `codelets` is the path of this file: __FILE__
// would stay in a library that a cache hands to another checkout.
extern "C" const char *run_case(const char *name, const char *codelets) {
  static std::string message;
  message.clear();
  try {
    faults::Setting setting(codelets);
    faults::cases().at(name)(setting);
  } catch (const std::exception &exception) {
    message = exception.what();
  }
  return message.c_str();
}
