// Where the activations lie: their tiles' runs of memory, described as the codelets want them.
//
// A convolution leaves channels in groups of 8 or 16 for each pixel, in memory [C / G][N][S][G] or the like. Seen in
// the order of [N, C, S], each element of such a tensor is an interval by itself, and Poplar keeps a view of each: at
// ResNet-50's sizes some hundred millions. So everything here is seen in the order [N][C / G][S][G], in which a tile's
// elements are a few long intervals.
#pragma once

#include <poplar/DebugContext.hpp>
#include <poplar/Graph.hpp>
#include <poplar/Interval.hpp>
#include <poplar/Tensor.hpp>
#include <poplar/Type.hpp>

#include <cstddef>
#include <vector>

namespace proxy_norm {

// [N, C, *] as a problem of N instances, C channels and S elements each. What an element needs to know depends on its
// row: its instance and channel with a norm, its channel without one.
struct Shape {
  Shape(const poplar::Tensor &x, unsigned groups);
  std::size_t instances, channels, spatial;
  bool norm;
  std::size_t groups;   // of an instance; 1 without a norm
  std::size_t perGroup; // channels

  std::size_t allRows() const { return norm ? instances * channels : channels; }
  std::size_t allGroups() const { return norm ? instances * groups : 1; }
  std::size_t rowOf(std::size_t instance, std::size_t channel) const {
    return norm ? instance * channels + channel : channel;
  }
  std::size_t channelOf(std::size_t row) const { return row % channels; }
  std::size_t groupOf(std::size_t row) const { return norm ? row / perGroup : 0; }
};

// Instances and channels whose elements lie in memory in groups of `width` channels.
struct Block {
  std::size_t firstInstance, endInstance, firstChannel, endChannel, width;
  bool operator==(const Block &other) const;
};
std::vector<Block> channelGroups(const poplar::Graph &graph, const poplar::Tensor &x, const Shape &shape);

// The tensor flat, block after block, each in the order [N][C / G][S][G].
poplar::Tensor inMemoryOrder(const poplar::Tensor &x, const Shape &shape, const std::vector<Block> &blocks);

// One run of memory on one tile, with the rows, channels and groups that it touches.
struct TileRun {
  unsigned tile;
  std::vector<poplar::Interval> elements; // of the tensor in memory order
  std::size_t length;
  std::vector<poplar::Interval> rows, channels, groups;
  std::size_t rowCount, channelCount, groupCount;
  // Four numbers for each piece (see sweep.hpp): the place of its first row among this run's, its width in rows, how
  // often they come, and how many of these times make a worker's task (0: workers share it by words).
  std::vector<unsigned short> pieces;
  static constexpr std::size_t kNumbers = 4;
  std::vector<unsigned short> channelOfRow, groupOfRow; // places among this run's channels and groups
};

std::vector<TileRun> tileRuns(const poplar::Graph &graph, const poplar::Tensor &x, const Shape &shape,
                              const std::vector<Block> &blocks);

// Parts of a tensor's first dimension, as one row.
poplar::Tensor rowsOf(const poplar::Tensor &tensor, const std::vector<poplar::Interval> &rows);

// Channels in blocks, one for each of some tiles, spread evenly: where parameters and proxies live. A block holds
// six channels or more, one for each worker. `start` chooses the first tile, so that several operators do not all
// crowd on the same ones.
struct ChannelBlock {
  unsigned tile;
  std::size_t begin, end;
};
std::vector<ChannelBlock> channelBlocks(const poplar::Graph &graph, std::size_t channels, unsigned start);

// A tensor with one row for each channel ([C] or [C, k]), mapped block by block.
poplar::Tensor addByChannel(poplar::Graph &graph, const poplar::Type &type, std::vector<std::size_t> shape,
                            unsigned start, const poplar::DebugContext &debugContext);

} // namespace proxy_norm
