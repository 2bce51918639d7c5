#include "mapping.hpp"

#include <algorithm>
#include <numeric>

namespace host {
namespace {

// Stretches of `length` elements to the tiles in turn, from `first` on, in steps of `step`.
void deal(poplar::Graph &graph, const poplar::Tensor &flat, std::size_t length, std::size_t first,
          std::size_t step) {
  const std::size_t tiles = graph.getTarget().getNumTiles();
  std::size_t tile = first;
  for (std::size_t begin = 0; begin < flat.numElements(); begin += length, tile = (tile + step) % tiles)
    graph.setTileMapping(flat.slice(begin, std::min(begin + length, flat.numElements())), unsigned(tile));
}

} // namespace

poplar::Tensor addMapped(poplar::Graph &graph, const poplar::Type &type, const std::vector<std::size_t> &shape,
                         const std::string &mapping, const std::string &name) {
  const std::size_t tiles = graph.getTarget().getNumTiles();
  const std::size_t size =
      std::accumulate(shape.begin(), shape.end(), std::size_t(1), std::multiplies<std::size_t>());
  const std::size_t share = (size + tiles - 1) / tiles;
  if (mapping == "mixed" && shape.size() >= 2 && shape[1] >= 2) { // two convolutions' results side by side
    std::vector<std::size_t> left = shape, right = shape;
    left[1] = shape[1] / 2;
    right[1] = shape[1] - left[1];
    const std::vector<poplar::Tensor> both = {addMapped(graph, type, left, "grouped4", name),
                                              addMapped(graph, type, right, "linear", name)};
    return poplar::concat(both, 1);
  }
  if (mapping.compare(0, 7, "grouped") == 0 && shape.size() >= 2) { // by 8, or as many as the name says
    const std::size_t wanted = mapping.size() > 7 ? std::stoul(mapping.substr(7)) : 8;
    std::size_t width = std::min<std::size_t>(wanted, shape[1]);
    while (shape[1] % width != 0)
      --width;
    const std::size_t spatial = size / (shape[0] * shape[1]);
    const poplar::Tensor memory = graph.addVariable(type, {shape[1] / width, shape[0], spatial, width}, name);
    deal(graph, memory.flatten(), (share + width - 1) / width * width, 0, 1);
    return memory.dimShuffle({1, 0, 3, 2}).reshape(shape);
  }
  const poplar::Tensor tensor = graph.addVariable(type, shape, name);
  const poplar::Tensor flat = tensor.flatten();
  if (mapping == "linear")
    deal(graph, flat, share + share % 2, 0, 1);
  else if (mapping == "odd" || mapping == "mixed" || mapping.compare(0, 7, "grouped") == 0)
    deal(graph, flat, share | 1, 0, 1);
  else if (mapping == "reversed")
    deal(graph, flat, share + share % 2, tiles - 1, tiles - 1);
  else if (mapping == "single")
    deal(graph, flat, size, tiles - 1, 0);
  else if (mapping == "scattered")
    deal(graph, flat, 5, 0, 1);
  else
    throw poplar::poplar_error("unknown mapping '" + mapping + "'");
  return tensor;
}

poplar::Tensor import(poplar::Graph &graph, const poplar::Graph &from, const poplar::Tensor &tensor,
                      const std::string &name) {
  const poplar::host::Elements &old = tensor.hostElements();
  std::vector<std::uint32_t> order(old.size()), offset(old.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) { return old[a] < old[b]; });
  for (std::uint32_t i = 0; i < order.size(); ++i)
    offset[order[i]] = i;
  const poplar::Tensor memory = graph.addVariable(tensor.elementType(), {old.size()}, name);
  poplar::host::Elements elements;
  for (std::uint32_t i = 0; i < old.size(); ++i)
    elements.push_back(memory.hostElements()[offset[i]]);
  const poplar::Tensor out(tensor.elementType(), tensor.shape(), std::move(elements));
  graph.setTileMapping(out.flatten(), from.getTileMapping(tensor.flatten()));
  return out;
}

} // namespace host
