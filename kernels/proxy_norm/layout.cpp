#include "layout.hpp"

#include <poplar/Target.hpp>

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

namespace proxy_norm {
namespace {

// Neighbouring elements of one channel of one instance.
struct Stretch {
  std::size_t instance, channel, length;
};

std::vector<Stretch> stretches(const std::vector<poplar::Interval> &elements, const Shape &shape) {
  std::vector<Stretch> out;
  for (const poplar::Interval &interval : elements)
    for (std::size_t at = interval.begin(); at < interval.end();) {
      const std::size_t row = at / shape.spatial;
      const std::size_t end = std::min(interval.end(), (row + 1) * shape.spatial);
      out.push_back({row / shape.channels, row % shape.channels, end - at});
      at = end;
    }
  return out;
}

constexpr std::size_t kLargest = std::numeric_limits<unsigned short>::max();

// Sorted numbers without repetitions as intervals, and their places in that order.
class Rows {
public:
  explicit Rows(std::vector<std::size_t> numbers) : numbers_(std::move(numbers)) {
    std::sort(numbers_.begin(), numbers_.end());
    numbers_.erase(std::unique(numbers_.begin(), numbers_.end()), numbers_.end());
  }
  std::size_t place(std::size_t number) const {
    return std::size_t(std::lower_bound(numbers_.begin(), numbers_.end(), number) - numbers_.begin());
  }
  std::size_t count() const { return numbers_.size(); }
  std::vector<poplar::Interval> intervals() const {
    std::vector<poplar::Interval> out;
    for (std::size_t begin = 0, end; begin < numbers_.size(); begin = end) {
      for (end = begin + 1; end < numbers_.size() && numbers_[end] == numbers_[end - 1] + 1;)
        ++end;
      out.emplace_back(numbers_[begin], numbers_[begin] + (end - begin));
    }
    return out;
  }

private:
  std::vector<std::size_t> numbers_;
};

// Appends rows of `width` channels from a stretch's channel on; counts are 16 bits wide.
void addPiece(TileRun &run, std::size_t group, std::size_t offset, std::size_t channel, std::size_t width,
              std::size_t reps) {
  if (group > kLargest || offset > kLargest || channel > kLargest)
    throw std::invalid_argument("Proxy Norm: more than 65536 channels or groups lie on tile " +
                                std::to_string(run.tile));
  auto &pieces = run.pieces;
  if (width == 1 && !pieces.empty()) { // more of the channel before
    unsigned short *last = &pieces[pieces.size() - TileRun::kNumbers];
    if (last[0] == group && last[2] == channel && last[3] == 1 && last[4] + reps <= kLargest) {
      last[4] = static_cast<unsigned short>(last[4] + reps);
      return;
    }
  }
  for (std::size_t some; reps > 0; reps -= some) {
    some = std::min(reps, kLargest);
    for (const std::size_t value : {group, offset, channel, width, some})
      pieces.push_back(static_cast<unsigned short>(value));
  }
}

void describe(TileRun &run, const Shape &shape) {
  const std::vector<Stretch> all = stretches(run.elements, shape);
  std::vector<std::size_t> channels, groups;
  for (const Stretch &stretch : all) {
    channels.push_back(stretch.channel);
    groups.push_back(shape.groupOf(stretch.instance, stretch.channel));
    run.length += stretch.length;
  }
  const Rows channelRows(std::move(channels)), groupRows(std::move(groups));
  run.channels = channelRows.intervals();
  run.groups = groupRows.intervals();
  run.channelCount = channelRows.count();
  run.groupCount = groupRows.count();

  const auto follows = [&](std::size_t i, const Stretch &first, std::size_t offset) {
    return i < all.size() && all[i].length == 1 && all[i].instance == first.instance &&
           all[i].channel == first.channel + offset;
  };
  for (std::size_t i = 0; i < all.size();) {
    const Stretch &first = all[i];
    std::size_t width = 1, reps = first.length;
    while (first.length == 1 && width < kLargest && follows(i + width, first, width))
      ++width;
    const auto rowFollows = [&] {
      for (std::size_t j = 0; j < width; ++j)
        if (!follows(i + reps * width + j, first, j))
          return false;
      return true;
    };
    while (width > 1 && rowFollows())
      ++reps;
    addPiece(run, groupRows.place(shape.groupOf(first.instance, first.channel)), first.channel % shape.perGroup,
             channelRows.place(first.channel), width, reps);
    i += width > 1 ? width * reps : 1;
  }
}

} // namespace

Shape::Shape(const poplar::Tensor &x, unsigned groups) : norm(groups > 0), groups(groups > 0 ? groups : 1) {
  if (x.rank() < 2)
    throw std::invalid_argument("Proxy Norm: x must be [N, C, ...]");
  instances = x.dim(0);
  channels = x.dim(1);
  if (instances * channels == 0 || x.numElements() == 0 || channels % this->groups != 0)
    throw std::invalid_argument("Proxy Norm: " + std::to_string(channels) + " channels do not divide into " +
                                std::to_string(this->groups) + " groups, or x is empty");
  spatial = x.numElements() / (instances * channels);
  perGroup = channels / this->groups;
}

std::vector<TileRun> tileRuns(const poplar::Graph &graph, const poplar::Tensor &x, const Shape &shape) {
  const poplar::Tensor flat = x.flatten();
  const auto mapping = graph.getTileMapping(flat);
  std::vector<TileRun> runs;
  for (unsigned tile = 0; tile < mapping.size(); ++tile)
    if (!mapping[tile].empty())
      for (auto &region : graph.getSortedContiguousRegions(flat, mapping[tile])) {
        TileRun run{};
        run.tile = tile;
        run.elements.assign(region.begin(), region.end());
        describe(run, shape);
        runs.push_back(std::move(run));
      }
  return runs;
}

poplar::Tensor rowsOf(const poplar::Tensor &tensor, const std::vector<poplar::Interval> &rows) {
  const std::vector<poplar::Tensor> parts = tensor.slices(rows);
  return poplar::concat(parts).flatten();
}

std::vector<ChannelBlock> channelBlocks(const poplar::Graph &graph, std::size_t channels) {
  const std::size_t tiles = graph.getTarget().getNumTiles();
  const std::size_t workers = graph.getTarget().getNumWorkerContexts();
  const std::size_t perTile = std::max(workers, (channels + tiles - 1) / tiles);
  const std::size_t count = (channels + perTile - 1) / perTile;
  std::vector<ChannelBlock> blocks;
  for (std::size_t b = 0; b < count; ++b) // from the last tile down: small tensors crowd on the first ones
    blocks.push_back(
        {unsigned(tiles - 1 - b * tiles / count), b * perTile, std::min(channels, (b + 1) * perTile)});
  return blocks;
}

poplar::Tensor addByChannel(poplar::Graph &graph, const poplar::Type &type, std::vector<std::size_t> shape,
                            const poplar::DebugContext &debugContext) {
  const poplar::Tensor tensor = graph.addVariable(type, shape, debugContext);
  for (const ChannelBlock &block : channelBlocks(graph, shape[0]))
    graph.setTileMapping(tensor.slice(block.begin, block.end), block.tile);
  return tensor;
}

} // namespace proxy_norm
