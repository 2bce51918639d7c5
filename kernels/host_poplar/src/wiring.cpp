#include "wiring.hpp"

#include <algorithm>
#include <map>

namespace poplar {
namespace host {
namespace {

// For each element of a variable, where the run of consecutive elements on one tile begins that it lies in. Such
// runs begin at aligned addresses.
std::vector<std::uint32_t> runStarts(const Variable &variable) {
  std::vector<std::uint32_t> start(variable.tiles.size());
  for (std::uint32_t i = 1; i < start.size(); ++i)
    start[i] = variable.tiles[i] == variable.tiles[i - 1] ? start[i - 1] : i;
  return start;
}

using Starts = std::vector<std::vector<std::uint32_t>>; // of all variables

bool usableInPlace(const GraphContents &graph, const Starts &starts, const VertexInstance &vertex,
                   const Field &field, const Elements &elements) {
  if (elements.empty())
    return true;
  const Variable &variable = graph.variables[elements[0].variable];
  for (std::size_t i = 0; i < elements.size(); ++i)
    if (elements[i].variable != elements[0].variable || elements[i].offset != elements[0].offset + i ||
        variable.tiles[elements[i].offset] != vertex.tile)
      return false;
  const std::uint32_t begin = starts[elements[0].variable][elements[0].offset];
  return (elements[0].offset - begin) * variable.type.hostBytes() % field.align == 0;
}

WiredVertex wired(const GraphContents &graph, const Starts &starts, const VertexInstance &instance) {
  const std::string where =
      "vertex " + instance.type->name + " in '" + graph.computeSets[instance.computeSet] + "'";
  if (instance.tile < 0)
    throw poplar_error(where + " is not mapped to a tile");
  WiredVertex out{&instance, {}};
  for (const Field &field : instance.type->fields) {
    if (field.kind == FieldKind::State) {
      if (!instance.state.count(field.name))
        throw poplar_error(where + ": field '" + field.name + "' has no initial value");
      continue;
    }
    const auto edge = instance.edges.find(field.name);
    if (edge == instance.edges.end())
      throw poplar_error(where + ": field '" + field.name + "' is not connected");
    const Elements &elements = edge->second.hostElements();
    for (const Element &element : elements)
      if (graph.variables[element.variable].tiles[element.offset] < 0)
        throw poplar_error(where + ": tensor '" + graph.variables[element.variable].name +
                           "' is not mapped to tiles, element " + std::to_string(element.offset));
    out.edges.push_back(
        {&field, &elements, field.type.hostBytes(), usableInPlace(graph, starts, instance, field, elements)});
  }
  return out;
}

} // namespace

std::vector<std::vector<WiredVertex>> wire(const GraphContents &graph) {
  Starts starts;
  for (const Variable &variable : graph.variables)
    starts.push_back(runStarts(variable));
  std::vector<std::vector<WiredVertex>> sets(graph.computeSets.size());
  for (const VertexInstance &instance : graph.vertices)
    sets[instance.computeSet].push_back(wired(graph, starts, instance));
  return sets;
}

void checkRaces(const GraphContents &graph, const std::string &setName, const std::vector<WiredVertex> &vertices) {
  constexpr std::int32_t nobody = -1;
  // By variable: who writes each element, and who writes each word in place (kept at the word's first element).
  std::map<std::uint32_t, std::vector<std::int32_t>> writers, wordWriters;
  std::map<std::uint32_t, std::vector<std::uint32_t>> words;
  const auto fail = [&](const char *what, const Element &element, std::int32_t a, std::int32_t b) {
    throw poplar_error("race in compute set '" + setName + "': " + vertices[a].instance->type->name + " and " +
                       vertices[b].instance->type->name + (a == b ? " (the same vertex) " : " ") + what + " of '" +
                       graph.variables[element.variable].name + "', element " + std::to_string(element.offset));
  };
  for (std::int32_t v = 0; v < std::int32_t(vertices.size()); ++v)
    for (const Edge &edge : vertices[v].edges) {
      if (!edge.field->writes())
        continue;
      for (const Element &element : *edge.elements) {
        const Variable &variable = graph.variables[element.variable];
        auto &writer = writers[element.variable];
        writer.resize(variable.tiles.size(), nobody);
        if (writer[element.offset] != nobody)
          fail("both write an element", element, writer[element.offset], v);
        writer[element.offset] = v;
        if (!edge.inPlace || variable.type.hostBytes() >= 4)
          continue;
        auto &word = words[element.variable];
        auto &wordWriter = wordWriters[element.variable];
        if (word.empty()) { // each element's word, named by the first element in it
          const std::uint32_t perWord = 4 / variable.type.hostBytes();
          word = runStarts(variable);
          for (std::uint32_t i = 0; i < word.size(); ++i)
            word[i] += (i - word[i]) / perWord * perWord;
          wordWriter.resize(word.size(), nobody);
        }
        std::int32_t &owner = wordWriter[word[element.offset]];
        if (owner != nobody && owner != v)
          fail("both store to a 32-bit word", element, owner, v);
        owner = v;
      }
    }
  for (std::int32_t v = 0; v < std::int32_t(vertices.size()); ++v)
    for (const Edge &edge : vertices[v].edges) {
      if (!edge.field->reads())
        continue;
      for (const Element &element : *edge.elements) {
        const auto writer = writers.find(element.variable);
        if (writer != writers.end() && writer->second[element.offset] != nobody &&
            !(edge.field->writes() && writer->second[element.offset] == v))
          fail("write and read an element", element, writer->second[element.offset], v);
      }
    }
}

} // namespace host
} // namespace poplar
