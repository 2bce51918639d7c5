#include "reduce.hpp"

#include "cycles.hpp"

#include <poplar/Target.hpp>
#include <poplar/Type.hpp>

#include <algorithm>
#include <cmath>

namespace proxy_norm {
namespace {

constexpr std::size_t kMostParts = 48; // that one vertex adds: more are added in two steps

} // namespace

void addSumVertex(poplar::Graph &graph, poplar::ComputeSet set, unsigned tile, const poplar::Tensor &parts,
                  std::size_t count, std::size_t values, const poplar::Tensor &out) {
  const poplar::VertexRef vertex =
      graph.addVertex(set, "proxy_norm::SumParts", {{"in", parts.flatten()}, {"out", out.flatten()}});
  graph.setInitialValue(vertex["parts"], unsigned(count));
  graph.setInitialValue(vertex["count"], unsigned(values));
  graph.setTileMapping(vertex, tile);
  graph.setPerfEstimate(vertex, cycles::sums(values / 2, count, 2));
}

Stages::Stages(poplar::Graph &graph, const poplar::DebugNameAndId &dnai)
    : graph_(graph), dnai_(dnai), onTile_(graph.addComputeSet({dnai, "sumOnTile"})),
      between_(graph.addComputeSet({dnai, "sumBetweenTiles"})), load_(graph.getTarget().getNumTiles(), 0),
      loadBetween_(load_) {}

void Stages::execute(poplar::program::Sequence &program) const {
  program.add(poplar::program::Execute(onTile_, {dnai_, "sumOnTile"}));
  if (betweenUsed_)
    program.add(poplar::program::Execute(between_, {dnai_, "sumBetweenTiles"}));
}

unsigned Stages::leastLoaded(const Contribution *begin, const Contribution *end, const std::vector<Part> &parts,
                             std::size_t work, std::vector<std::size_t> &load) const {
  unsigned best = parts[begin->part].tile;
  for (const Contribution *contribution = begin; contribution < end; ++contribution) {
    const unsigned tile = parts[contribution->part].tile;
    for (const unsigned candidate : {tile, unsigned((tile + 1) % load.size())}) // or a neighbour's
      if (load[candidate] < load[best])
        best = candidate;
  }
  load[best] += work;
  return best;
}

std::vector<RowSum> Stages::add(const std::vector<Part> &parts, std::size_t rows, std::size_t values,
                                std::size_t most) {
  std::vector<poplar::Tensor> onTile;
  std::vector<std::vector<Contribution>> ofRow(rows);
  for (std::size_t p = 0; p < parts.size(); ++p) {
    const Part &part = parts[p];
    const std::size_t workers = part.partials.dim(0), size = part.partials.dim(1);
    onTile.push_back(graph_.addVariable(poplar::FLOAT, {size}, {dnai_, "tileSum"}));
    graph_.setTileMapping(onTile[p], part.tile);
    addSumVertex(graph_, onTile_, part.tile, part.partials, workers, size, onTile[p]);
    std::size_t place = 0;
    for (const poplar::Interval &interval : part.rows)
      for (std::size_t row = interval.begin(); row < interval.end(); ++row)
        ofRow[row].push_back({p, place++});
  }

  // A row continues a vertex's rows if the same parts hold it next.
  const auto continues = [&](std::size_t row) {
    const auto &before = ofRow[row - 1], &now = ofRow[row];
    return before.size() == now.size() &&
           std::equal(now.begin(), now.end(), before.begin(), [](const Contribution &a, const Contribution &b) {
             return a.part == b.part && a.row == b.row + 1;
           });
  };
  std::vector<RowSum> sums;
  for (std::size_t begin = 0, end; begin < rows; begin = end) {
    for (end = begin + 1; end < rows && end - begin < most && continues(end);)
      ++end;
    const auto &from = ofRow[begin];
    const std::size_t size = (end - begin) * values;
    std::vector<poplar::Tensor> slices;
    for (const Contribution &contribution : from)
      slices.push_back(
          onTile[contribution.part].slice(contribution.row * values, contribution.row * values + size));
    std::size_t count = slices.size();
    if (count > kMostParts) {
      const auto chunks = std::size_t(std::ceil(std::sqrt(double(count))));
      const poplar::Tensor partial = graph_.addVariable(poplar::FLOAT, {chunks, size}, {dnai_, "partialSums"});
      for (std::size_t c = 0; c < chunks; ++c) {
        const std::size_t b = count * c / chunks, e = count * (c + 1) / chunks;
        const unsigned tile =
            leastLoaded(from.data() + b, from.data() + e, parts, (e - b) * size, loadBetween_);
        const std::vector<poplar::Tensor> some(slices.begin() + b, slices.begin() + e);
        graph_.setTileMapping(partial[c], tile);
        addSumVertex(graph_, between_, tile, poplar::concat(some), e - b, size, partial[c]);
      }
      slices = {partial.flatten()};
      count = chunks;
      betweenUsed_ = true;
    }
    const unsigned tile = leastLoaded(from.data(), from.data() + from.size(), parts, count * size, load_);
    sums.push_back({tile, begin, end - begin, count, poplar::concat(slices).flatten()});
  }
  return sums;
}

} // namespace proxy_norm
