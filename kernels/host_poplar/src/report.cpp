#include "report.hpp"

#include <algorithm>
#include <sstream>

namespace poplar {
namespace host {
namespace {

// Between two compute sets all tiles wait for each other: PopLibs' planner of the CTC loss counts 90 cycles.
constexpr std::uint64_t kSyncCycles = 90;

using PerTile = std::vector<std::uint64_t>;

struct StepFigures {
  PerTile compute, received, sent, buffers;
};

// An element that a tile receives for a step (or, where `tile` is its home, moves on the spot), or sends.
struct Move {
  std::int32_t tile;
  Element element;
  bool operator<(const Move &other) const {
    return tile != other.tile ? tile < other.tile : element < other.element;
  }
  bool operator==(const Move &other) const { return tile == other.tile && element == other.element; }
};

// What an element costs to bring to a tile is paid once for a tile, however many of its vertices read it, and it
// is sent once, however many tiles receive it.
template <typename T> void keepOnce(std::vector<T> &values) {
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
}

StepFigures figuresOf(const GraphContents &graph, const std::vector<std::vector<WiredVertex>> &sets,
                      const Step &step) {
  const unsigned tiles = graph.target.getNumTiles();
  StepFigures figures{PerTile(tiles), PerTile(tiles), PerTile(tiles), PerTile(tiles)};
  const auto home = [&](const Element &element) {
    return graph.variables[element.variable].tiles[element.offset];
  };
  const auto bytes = [&](const Element &element) { return graph.variables[element.variable].type.hostBytes(); };
  std::vector<Move> in, out;
  if (step.kind == Step::Execute)
    for (const WiredVertex &vertex : sets[step.computeSet]) {
      figures.compute[vertex.instance->tile] += vertex.instance->cycles;
      for (const Edge &edge : vertex.edges)
        if (!edge.inPlace)
          for (const Element &element : *edge.elements)
            (edge.field->reads() ? in : out).push_back({vertex.instance->tile, element});
    }
  if (step.kind == Step::Copy)
    for (std::size_t i = 0; i < step.source.numElements(); ++i) {
      const std::int32_t target = home(step.target.hostElements()[i]);
      if (target != home(step.source.hostElements()[i]))
        in.push_back({target, step.source.hostElements()[i]});
    }
  keepOnce(in);
  std::vector<Element> sent;
  for (const Move &move : in) {
    figures.buffers[move.tile] += bytes(move.element);
    if (home(move.element) != move.tile) {
      figures.received[move.tile] += bytes(move.element);
      sent.push_back(move.element);
    }
  }
  keepOnce(sent);
  for (const Element &element : sent)
    figures.sent[home(element)] += bytes(element);
  for (const Move &move : out) { // written by one vertex only
    figures.buffers[move.tile] += bytes(move.element);
    if (home(move.element) != move.tile) {
      figures.sent[move.tile] += bytes(move.element);
      figures.received[home(move.element)] += bytes(move.element);
    }
  }
  return figures;
}

// First and last step that touch a variable; -1 and `steps` stand for before and after the program.
struct Life {
  int first = 1 << 30, last = -1;
  void touch(int step) {
    first = std::min(first, step);
    last = std::max(last, step);
  }
};

std::vector<Life> lives(const GraphContents &graph, const std::vector<std::vector<WiredVertex>> &sets,
                        const std::vector<const Step *> &steps, const std::vector<Tensor> &keep) {
  std::vector<Life> out(graph.variables.size());
  std::vector<bool> produced(graph.variables.size());
  for (int s = 0; s < int(steps.size()); ++s) {
    const auto touch = [&](const Elements &elements, bool write) {
      for (const Element &element : elements) {
        out[element.variable].touch(write || produced[element.variable] ? s : -1);
        out[element.variable].touch(s);
        if (write)
          produced[element.variable] = true;
      }
    };
    if (steps[s]->kind == Step::Execute)
      for (const WiredVertex &vertex : sets[steps[s]->computeSet])
        for (const Edge &edge : vertex.edges)
          touch(*edge.elements, edge.field->writes());
    if (steps[s]->kind == Step::Copy) {
      touch(steps[s]->source.hostElements(), false);
      touch(steps[s]->target.hostElements(), true);
    }
  }
  for (const Tensor &tensor : keep)
    for (const Element &element : tensor.hostElements())
      out[element.variable].touch(int(steps.size()));
  for (std::size_t v = 0; v < out.size(); ++v)
    if (graph.variables[v].readOnly) { // inputs and constants live throughout
      out[v].touch(-1);
      out[v].touch(int(steps.size()));
    }
  return out;
}

template <typename T> std::uint64_t sum(const T &values) {
  std::uint64_t total = 0;
  for (const auto value : values)
    total += value;
  return total;
}

std::uint64_t largest(const PerTile &values) {
  return values.empty() ? 0 : *std::max_element(values.begin(), values.end());
}

} // namespace

std::string report(const GraphContents &graph, const std::vector<std::vector<WiredVertex>> &sets,
                   const std::vector<const Step *> &steps, const std::vector<Tensor> &keep) {
  const unsigned tiles = graph.target.getNumTiles();
  PerTile state(tiles), constants(tiles);
  for (const auto &set : sets)
    for (const WiredVertex &vertex : set) {
      std::uint64_t bytes = 0;
      for (const Field &field : vertex.instance->type->fields)
        bytes += field.stateBytes;
      state[vertex.instance->tile] += (bytes + 3) / 4 * 4;
    }
  const std::vector<Life> life = lives(graph, sets, steps, keep);
  const auto addTo = [&](PerTile &bytes, const Variable &variable) {
    for (const std::int32_t tile : variable.tiles)
      if (tile >= 0)
        bytes[tile] += variable.type.hostBytes();
  };
  for (const Variable &variable : graph.variables)
    if (variable.constant)
      addTo(constants, variable);

  std::uint64_t compute = 0, exchange = 0, sync = 0, worstTile = 0, peakTemporary = 0, worstTemporary = 0;
  std::ostringstream perStep;
  for (int s = 0; s < int(steps.size()); ++s) {
    const Step &step = *steps[s];
    if (step.kind == Step::WriteUndef)
      continue;
    const StepFigures figures = figuresOf(graph, sets, step);
    const std::uint64_t stepCompute = largest(figures.compute);
    const std::uint64_t moved = std::max(largest(figures.received), largest(figures.sent));
    const std::uint64_t stepExchange =
        (moved + graph.target.getExchangeBytesPerCycle() - 1) / graph.target.getExchangeBytesPerCycle();
    compute += stepCompute;
    exchange += stepExchange;
    sync += kSyncCycles;
    PerTile all = figures.buffers, temporary = figures.buffers;
    for (std::size_t v = 0; v < graph.variables.size(); ++v) {
      if (life[v].first > s || life[v].last < s || graph.variables[v].constant)
        continue;
      addTo(all, graph.variables[v]);
      if (life[v].first >= 0 && life[v].last < int(steps.size()))
        addTo(temporary, graph.variables[v]);
    }
    for (unsigned tile = 0; tile < tiles; ++tile)
      all[tile] += state[tile] + constants[tile];
    worstTile = std::max(worstTile, largest(all));
    peakTemporary = std::max(peakTemporary, sum(temporary));
    worstTemporary = std::max(worstTemporary, largest(temporary));
    perStep << (perStep.tellp() > 0 ? "," : "") << "{\"name\":\""
            << (step.kind == Step::Execute ? graph.computeSets[step.computeSet] : std::string("copy"))
            << "\",\"compute_cycles\":" << stepCompute << ",\"exchange_cycles\":" << stepExchange
            << ",\"exchanged_bytes\":" << sum(figures.received) << "}";
  }
  std::ostringstream out;
  out << "{\"tiles\":" << tiles << ",\"cycles\":" << compute + exchange + sync << ",\"compute_cycles\":" << compute
      << ",\"exchange_cycles\":" << exchange << ",\"sync_cycles\":" << sync
      << ",\"worst_tile_bytes\":" << worstTile << ",\"peak_temporary_bytes\":" << peakTemporary
      << ",\"worst_tile_temporary_bytes\":" << worstTemporary << ",\"vertex_state_bytes\":" << sum(state)
      << ",\"constant_bytes\":" << sum(constants) << ",\"vertices\":" << graph.vertices.size() << ",\"steps\":["
      << perStep.str() << "]}";
  return out.str();
}

} // namespace host
} // namespace poplar
