#include "layout.hpp"

#include <poplar/Target.hpp>

#include <algorithm>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>

namespace proxy_norm {
namespace {

constexpr std::size_t kLargest = std::numeric_limits<unsigned short>::max();

// Some numbers in ascending order as intervals, and each one's place among them.
class Places {
public:
  explicit Places(std::vector<poplar::Interval> some) {
    std::sort(some.begin(), some.end(), [](const poplar::Interval &a, const poplar::Interval &b) {
      return a.begin() < b.begin() || (a.begin() == b.begin() && a.end() < b.end());
    });
    for (const poplar::Interval &interval : some)
      if (!intervals_.empty() && interval.begin() <= intervals_.back().end())
        intervals_.back() =
            poplar::Interval(intervals_.back().begin(), std::max(intervals_.back().end(), interval.end()));
      else
        intervals_.push_back(interval);
    for (const poplar::Interval &interval : intervals_) {
      before_.push_back(count_);
      count_ += interval.size();
    }
  }
  std::size_t of(std::size_t number) const {
    const auto after = std::upper_bound(intervals_.begin(), intervals_.end(), number,
                                        [](std::size_t n, const poplar::Interval &i) { return n < i.begin(); });
    const auto i = std::size_t(after - intervals_.begin()) - 1;
    return before_[i] + number - intervals_[i].begin();
  }
  std::size_t count() const { return count_; }
  const std::vector<poplar::Interval> &intervals() const { return intervals_; }

private:
  std::vector<poplar::Interval> intervals_;
  std::vector<std::size_t> before_;
  std::size_t count_ = 0;
};

// `reps` times `width` neighbouring rows, one element of each.
struct Piece {
  std::size_t row, width, reps;
};

class Pieces {
public:
  void add(std::size_t row, std::size_t width, std::size_t reps) {
    if (width == 0 || reps == 0)
      return;
    if (!all.empty() && all.back().row == row && all.back().width == width)
      all.back().reps += reps;
    else
      all.push_back({row, width, reps});
  }
  std::vector<Piece> all;
};

// Elements [begin, end) of a block of the tensor in memory order.
void addPieces(Pieces &pieces, std::size_t begin, std::size_t end, const Block &block, const Shape &shape) {
  const std::size_t slab = shape.spatial * block.width; // the pixels of one group of channels of one instance
  const std::size_t ofInstance = (block.endChannel - block.firstChannel) * shape.spatial;
  for (std::size_t at = begin; at < end;) {
    const std::size_t stop = std::min(end, (at / slab + 1) * slab);
    const std::size_t channel = block.firstChannel + at % ofInstance / slab * block.width;
    const std::size_t row = shape.rowOf(block.firstInstance + at / ofInstance, channel);
    std::size_t lane = at % block.width;
    if (lane > 0) { // the rest of a pixel
      const std::size_t some = std::min(block.width - lane, stop - at);
      pieces.add(row + lane, some, 1);
      at += some;
    }
    pieces.add(row, block.width, (stop - at) / block.width);
    pieces.add(row, (stop - at) % block.width, 1);
    at = stop;
  }
}

// How workers share a piece of whole vectors: each takes columns of rows, and some of the pixels where there are fewer
// columns than workers, so that as many tasks as possible are done at a time.
std::size_t pixelsOfTask(const Piece &piece, std::size_t first, std::size_t row, std::size_t lanes,
                         std::size_t workers) {
  if (piece.width == 1 || piece.width % lanes != 0 || first % lanes != 0 || row % lanes != 0)
    return 0;
  const std::size_t columns = piece.width / lanes;
  const std::size_t parts = std::min(piece.reps, workers / std::gcd(columns, workers));
  return (piece.reps + parts - 1) / parts;
}

void describe(TileRun &run, const Shape &shape, const std::vector<Block> &blocks,
              const std::vector<std::size_t> &starts, std::size_t lanes, std::size_t workers) {
  Pieces pieces;
  for (const poplar::Interval &interval : run.elements)
    for (std::size_t at = interval.begin(); at < interval.end();) {
      const auto b = std::size_t(std::upper_bound(starts.begin(), starts.end(), at) - starts.begin()) - 1;
      const std::size_t end = std::min(interval.end(), b + 1 < starts.size() ? starts[b + 1] : interval.end());
      addPieces(pieces, at - starts[b], end - starts[b], blocks[b], shape);
      run.length += end - at;
      at = end;
    }
  std::vector<poplar::Interval> touched;
  for (const Piece &piece : pieces.all)
    touched.emplace_back(piece.row, piece.row + piece.width);
  const Places rows(std::move(touched));
  std::vector<poplar::Interval> someChannels, someGroups;
  for (const poplar::Interval &interval : rows.intervals())
    for (std::size_t row = interval.begin(); row < interval.end(); ++row) {
      someChannels.emplace_back(shape.channelOf(row), shape.channelOf(row) + 1);
      someGroups.emplace_back(shape.groupOf(row), shape.groupOf(row) + 1);
    }
  const Places channels(std::move(someChannels)), groups(std::move(someGroups));
  run.rows = rows.intervals();
  run.channels = channels.intervals();
  run.groups = groups.intervals();
  run.rowCount = rows.count();
  run.channelCount = channels.count();
  run.groupCount = groups.count();
  if (run.rowCount > kLargest)
    throw std::invalid_argument("Proxy Norm: more than 65535 channels of instances lie on tile " +
                                std::to_string(run.tile));
  for (const poplar::Interval &interval : rows.intervals())
    for (std::size_t row = interval.begin(); row < interval.end(); ++row) {
      run.channelOfRow.push_back(static_cast<unsigned short>(channels.of(shape.channelOf(row))));
      run.groupOfRow.push_back(static_cast<unsigned short>(groups.of(shape.groupOf(row))));
    }
  std::size_t first = 0;
  for (Piece piece : pieces.all)
    for (std::size_t left = piece.reps; left > 0; left -= piece.reps) { // counts are 16 bits wide
      piece.reps = std::min(left, kLargest);
      const std::size_t row = rows.of(piece.row), task = pixelsOfTask(piece, first, row, lanes, workers);
      for (const std::size_t value : {row, piece.width, piece.reps, task})
        run.pieces.push_back(static_cast<unsigned short>(value));
      first += piece.width * piece.reps;
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

bool Block::operator==(const Block &other) const {
  return firstInstance == other.firstInstance && endInstance == other.endInstance &&
         firstChannel == other.firstChannel && endChannel == other.endChannel && width == other.width;
}

// The first pixel of each instance shows how its channels lie: neighbours in memory make a group. Should other pixels
// lie otherwise, the result is right still, in more intervals.
std::vector<Block> channelGroups(const poplar::Graph &graph, const poplar::Tensor &x, const Shape &shape) {
  const poplar::Tensor view = x.reshape({shape.instances, shape.channels, shape.spatial});
  std::vector<Block> blocks;
  std::size_t ofInstanceBefore = 0; // how many of the last blocks belong to the instance before
  for (std::size_t n = 0; n < shape.instances; ++n) {
    const poplar::Tensor pixel = view[n].slice(0, 1, 1).flatten();
    std::vector<poplar::Interval> neighbours;
    for (const auto &run : graph.getSortedContiguousRegions(pixel, {poplar::Interval(0, shape.channels)}))
      for (const poplar::Interval &interval : run)
        neighbours.push_back(interval);
    std::sort(neighbours.begin(), neighbours.end(),
              [](const poplar::Interval &a, const poplar::Interval &b) { return a.begin() < b.begin(); });
    std::vector<Block> now;
    for (const poplar::Interval &group : neighbours)
      if (!now.empty() && now.back().width == group.size())
        now.back().endChannel = group.end();
      else
        now.push_back({n, n + 1, group.begin(), group.end(), group.size()});
    bool same = now.size() == ofInstanceBefore;
    for (std::size_t i = 0; same && i < now.size(); ++i) {
      const Block &before = blocks[blocks.size() - now.size() + i];
      same = Block{n, n + 1, before.firstChannel, before.endChannel, before.width} == now[i];
    }
    // Several blocks side by side extend over instances only one by one, as each is seen instance after instance.
    if (same && now.size() == 1)
      blocks.back().endInstance = n + 1;
    else
      blocks.insert(blocks.end(), now.begin(), now.end());
    ofInstanceBefore = now.size();
  }
  return blocks;
}

poplar::Tensor inMemoryOrder(const poplar::Tensor &x, const Shape &shape, const std::vector<Block> &blocks) {
  const poplar::Tensor view = x.reshape({shape.instances, shape.channels, shape.spatial});
  std::vector<poplar::Tensor> parts;
  for (const Block &block : blocks) {
    const std::size_t instances = block.endInstance - block.firstInstance;
    const std::size_t groups = (block.endChannel - block.firstChannel) / block.width;
    parts.push_back(view.slice(block.firstInstance, block.endInstance, 0)
                        .slice(block.firstChannel, block.endChannel, 1)
                        .reshape({instances, groups, block.width, shape.spatial})
                        .dimShuffle({0, 1, 3, 2})
                        .flatten());
  }
  return poplar::concat(parts);
}

std::vector<TileRun> tileRuns(const poplar::Graph &graph, const poplar::Tensor &x, const Shape &shape,
                              const std::vector<Block> &blocks) {
  const poplar::Tensor flat = inMemoryOrder(x, shape, blocks);
  std::vector<std::size_t> starts;
  std::size_t at = 0;
  for (const Block &block : blocks) {
    starts.push_back(at);
    at += (block.endInstance - block.firstInstance) * (block.endChannel - block.firstChannel) * shape.spatial;
  }
  const auto mapping = graph.getTileMapping(flat);
  const std::size_t lanes = x.elementType() == poplar::HALF ? 4 : 2; // of 64 bits
  const std::size_t workers = graph.getTarget().getNumWorkerContexts();
  std::vector<TileRun> runs;
  for (unsigned tile = 0; tile < mapping.size(); ++tile)
    if (!mapping[tile].empty())
      for (auto &region : graph.getSortedContiguousRegions(flat, mapping[tile])) {
        TileRun run{};
        run.tile = tile;
        run.elements.assign(region.begin(), region.end());
        describe(run, shape, blocks, starts, lanes, workers);
        runs.push_back(std::move(run));
      }
  return runs;
}

poplar::Tensor rowsOf(const poplar::Tensor &tensor, const std::vector<poplar::Interval> &rows) {
  const std::vector<poplar::Tensor> parts = tensor.slices(rows);
  return poplar::concat(parts).flatten();
}

std::vector<ChannelBlock> channelBlocks(const poplar::Graph &graph, std::size_t channels, unsigned start) {
  const std::size_t tiles = graph.getTarget().getNumTiles();
  const std::size_t workers = graph.getTarget().getNumWorkerContexts();
  const std::size_t perTile = std::max(workers, (channels + tiles - 1) / tiles);
  const std::size_t count = (channels + perTile - 1) / perTile;
  std::vector<ChannelBlock> blocks;
  for (std::size_t b = 0; b < count; ++b)
    blocks.push_back({unsigned((start + b * tiles / count) % tiles), b * perTile,
                      std::min(channels, (b + 1) * perTile)});
  return blocks;
}

poplar::Tensor addByChannel(poplar::Graph &graph, const poplar::Type &type, std::vector<std::size_t> shape,
                            unsigned start, const poplar::DebugContext &debugContext) {
  const poplar::Tensor tensor = graph.addVariable(type, shape, debugContext);
  for (const ChannelBlock &block : channelBlocks(graph, shape[0], start))
    graph.setTileMapping(tensor.slice(block.begin, block.end), block.tile);
  return tensor;
}

} // namespace proxy_norm
