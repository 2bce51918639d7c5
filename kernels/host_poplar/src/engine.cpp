#include "judge.hpp"
#include "report.hpp"
#include "wiring.hpp"

#include <poplar/Engine.hpp>

#include <cstring>

namespace poplar {

struct Engine::Contents {
  std::shared_ptr<const host::GraphContents> graph; // kept alive
  std::shared_ptr<host::Step> program;
  bool judge;
  std::vector<std::vector<host::WiredVertex>> sets;
  std::vector<const host::Step *> steps;  // executed in this order
  std::vector<host::Bytes> memory;        // of each variable
  std::vector<std::vector<char>> written; // of each variable's elements, when judging

  const host::Variable &variable(std::uint32_t id) const { return graph->variables[id]; }

  void flatten(const std::shared_ptr<host::Step> &step) {
    if (step->kind != host::Step::Sequence)
      steps.push_back(step.get());
    for (const auto &inner : step->steps)
      flatten(inner);
  }

  void gather(const host::Elements &elements, unsigned size, char *to) const {
    for (std::size_t i = 0; i < elements.size(); ++i)
      std::memcpy(to + i * size, memory[elements[i].variable].data() + std::size_t(elements[i].offset) * size,
                  size);
  }

  void scatter(const host::Elements &elements, unsigned size, const char *from) {
    for (std::size_t i = 0; i < elements.size(); ++i)
      std::memcpy(memory[elements[i].variable].data() + std::size_t(elements[i].offset) * size, from + i * size,
                  size);
  }

  void mark(const host::Elements &elements, char value) {
    if (judge)
      for (const host::Element &element : elements)
        written[element.variable][element.offset] = value;
  }

  void checkWritten(const host::Elements &elements, const std::string &where) const {
    for (const host::Element &element : elements)
      if (!written[element.variable][element.offset])
        throw poplar_error(where + " reads '" + variable(element.variable).name + "', element " +
                           std::to_string(element.offset) + ", which nothing has written");
  }

  void executeJudged(const host::WiredVertex &vertex) {
    std::vector<host::Content> contents(vertex.edges.size());
    for (std::size_t e = 0; e < vertex.edges.size(); ++e) {
      const host::Edge &edge = vertex.edges[e];
      contents[e].bytes.resize(edge.bytes());
      if (!edge.field->reads())
        continue;
      if (!edge.field->writes())
        checkWritten(*edge.elements, vertex.instance->type->name);
      gather(*edge.elements, edge.elementBytes, contents[e].bytes.data());
      for (const host::Element &element : *edge.elements)
        contents[e].known.insert(contents[e].known.end(), edge.elementBytes,
                                 written[element.variable][element.offset]);
    }
    host::judge(vertex, contents);
    for (std::size_t e = 0; e < vertex.edges.size(); ++e) {
      const host::Edge &edge = vertex.edges[e];
      if (!edge.field->writes())
        continue;
      scatter(*edge.elements, edge.elementBytes, contents[e].bytes.data());
      for (std::size_t i = 0; i < edge.elements->size(); ++i)
        if (contents[e].known[i * edge.elementBytes])
          written[(*edge.elements)[i].variable][(*edge.elements)[i].offset] = 1;
    }
  }

  void executeFast(const host::WiredVertex &vertex) {
    std::vector<host::Bytes> buffers(vertex.edges.size());
    std::vector<char *> data;
    for (std::size_t e = 0; e < vertex.edges.size(); ++e) {
      const host::Edge &edge = vertex.edges[e];
      if (edge.inPlace && !edge.elements->empty()) {
        const host::Element &first = (*edge.elements)[0];
        data.push_back(memory[first.variable].data() + std::size_t(first.offset) * edge.elementBytes);
        continue;
      }
      buffers[e].resize(edge.bytes());
      if (edge.field->reads())
        gather(*edge.elements, edge.elementBytes, buffers[e].data());
      data.push_back(buffers[e].data());
    }
    const std::shared_ptr<void> object = host::instantiate(vertex, data);
    for (unsigned worker = 0; worker < (vertex.instance->type->multi ? MultiVertex::numWorkers() : 1u); ++worker)
      vertex.instance->type->compute(object.get(), worker);
    for (std::size_t e = 0; e < vertex.edges.size(); ++e)
      if (vertex.edges[e].field->writes() && !vertex.edges[e].inPlace)
        scatter(*vertex.edges[e].elements, vertex.edges[e].elementBytes, buffers[e].data());
  }

  void copy(const host::Step &step) {
    const unsigned size = step.source.elementType().hostBytes();
    const host::Elements &source = step.source.hostElements();
    if (judge)
      checkWritten(source, "a copy");
    host::Bytes buffer(source.size() * size);
    gather(source, size, buffer.data());
    scatter(step.target.hostElements(), size, buffer.data());
    mark(step.target.hostElements(), 1);
  }
};

Engine::Engine(const Graph &graph, const program::Program &program, bool judge)
    : contents_(new Contents{graph.hostShare(), program.hostStep(), judge, {}, {}, {}, {}}) {
  const host::GraphContents &contents = graph.hostContents();
  contents_->flatten(contents_->program);
  contents_->sets = host::wire(contents);
  for (std::size_t set = 0; set < contents_->sets.size(); ++set)
    host::checkRaces(contents, contents.computeSets[set], contents_->sets[set]);
  for (const host::Step *step : contents_->steps) {
    if (step->kind != host::Step::Copy)
      continue;
    if (step->source.elementType() != step->target.elementType() ||
        step->source.numElements() != step->target.numElements())
      throw poplar_error("a copy between tensors of different type or size");
    for (const host::Element &element : step->target.hostElements())
      if (contents.variables[element.variable].readOnly)
        throw poplar_error("a copy to '" + contents.variables[element.variable].name + "', which is read only");
  }
  for (const host::Variable &variable : contents.variables) {
    contents_->memory.emplace_back(variable.tiles.size() * variable.type.hostBytes());
    contents_->written.emplace_back(judge ? variable.tiles.size() : 0, variable.constant);
    if (variable.constant)
      contents_->memory.back() = variable.initial;
  }
}

Engine::~Engine() = default;

void Engine::run() {
  for (const host::Step *step : contents_->steps) {
    if (step->kind == host::Step::Copy)
      contents_->copy(*step);
    else if (step->kind == host::Step::WriteUndef)
      contents_->mark(step->target.hostElements(), 0);
    else
      for (const host::WiredVertex &vertex : contents_->sets[step->computeSet])
        contents_->judge ? contents_->executeJudged(vertex) : contents_->executeFast(vertex);
  }
}

void Engine::writeTensor(const Tensor &tensor, const void *from) {
  contents_->scatter(tensor.hostElements(), tensor.elementType().hostBytes(), static_cast<const char *>(from));
  contents_->mark(tensor.hostElements(), 1);
}

void Engine::readTensor(const Tensor &tensor, void *to) const {
  contents_->gather(tensor.hostElements(), tensor.elementType().hostBytes(), static_cast<char *>(to));
}

std::string Engine::hostReport(const std::vector<Tensor> &keep) const {
  return host::report(*contents_->graph, contents_->sets, contents_->steps, keep);
}

} // namespace poplar
