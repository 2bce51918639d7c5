// Where the activations lie: their tiles' runs of memory, described as the codelets want them.
#pragma once

#include <poplar/DebugContext.hpp>
#include <poplar/Graph.hpp>
#include <poplar/Interval.hpp>
#include <poplar/Tensor.hpp>
#include <poplar/Type.hpp>

#include <cstddef>
#include <vector>

namespace proxy_norm {

// [N, C, *] as a problem of N instances, C channels and S elements each. Without a norm every instance and
// channel shares one group.
struct Shape {
  Shape(const poplar::Tensor &x, unsigned groups);
  std::size_t instances, channels, spatial;
  bool norm;
  std::size_t groups;   // of an instance; 1 without a norm
  std::size_t perGroup; // channels

  std::size_t allGroups() const { return norm ? instances * groups : 1; }
  std::size_t groupOf(std::size_t instance, std::size_t channel) const {
    return norm ? instance * groups + channel / perGroup : 0;
  }
};

// One run of memory on one tile, with the channels and groups that it touches (as rows of [C] and [N * G]).
struct TileRun {
  unsigned tile;
  std::vector<poplar::Interval> elements; // of the flattened tensor, in memory order
  std::size_t length;
  std::vector<poplar::Interval> channels, groups;
  std::size_t channelCount, groupCount;
  // Five numbers for each piece (see sweep.hpp): the first channel's group (its place in `groups`), the channel's
  // place in that group, its place in `channels`, then width and reps.
  std::vector<unsigned short> pieces;
  static constexpr std::size_t kNumbers = 5;
};

std::vector<TileRun> tileRuns(const poplar::Graph &graph, const poplar::Tensor &x, const Shape &shape);

// Parts of a tensor's first dimension, as one row.
poplar::Tensor rowsOf(const poplar::Tensor &tensor, const std::vector<poplar::Interval> &rows);

// Channels in blocks, one for each of some tiles, spread evenly: where parameters and proxies live. A block holds
// six channels or more, one for each worker.
struct ChannelBlock {
  unsigned tile;
  std::size_t begin, end;
};
std::vector<ChannelBlock> channelBlocks(const poplar::Graph &graph, std::size_t channels);

// A tensor with one row for each channel ([C] or [C, k]), mapped block by block.
poplar::Tensor addByChannel(poplar::Graph &graph, const poplar::Type &type, std::vector<std::size_t> shape,
                            const poplar::DebugContext &debugContext);

} // namespace proxy_norm
