// Graphs with one fault each, to see that the host notices, and one without.
#include "../../kernels/host_poplar/src/vertex_type.hpp"

#include <poplar/Engine.hpp>

#include <functional>
#include <map>

namespace faults {

template <typename T> using In = poplar::Input<poplar::Vector<T, poplar::VectorLayout::ONE_PTR, 8>>;
template <typename T> using Out = poplar::Output<poplar::Vector<T, poplar::VectorLayout::ONE_PTR, 8>>;

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
