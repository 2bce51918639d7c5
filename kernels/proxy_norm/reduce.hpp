// Sums of rows that many tiles hold parts of.
#pragma once

#include <poplar/DebugContext.hpp>
#include <poplar/Graph.hpp>
#include <poplar/Interval.hpp>
#include <poplar/Program.hpp>
#include <poplar/Tensor.hpp>

#include <cstddef>
#include <vector>

namespace proxy_norm {

// What the workers of a tile have of some rows (ascending): partials [workers, rows * values].
struct Part {
  unsigned tile;
  std::vector<poplar::Interval> rows;
  poplar::Tensor partials;
};

// Rows that the same tiles hold parts of: parts [count, rows * values], to be added by one vertex on `tile`.
struct RowSum {
  unsigned tile;
  std::size_t firstRow, rows, count;
  poplar::Tensor parts;
};

// The stages of a reduction before its last one, which several reductions may share: first each tile adds what
// its workers have, then rows that many tiles hold are brought down to about the square root of their number.
class Stages {
public:
  Stages(poplar::Graph &graph, const poplar::DebugNameAndId &dnai);
  // Says that a tile has other work beside the last stage, as much as adding `values` values.
  void avoid(unsigned tile, std::size_t values) { load_[tile] += values; }
  void execute(poplar::program::Sequence &program) const;
  const poplar::ComputeSet &onTile() const { return onTile_; }

  // What the caller's vertices remain to add, at most `most` rows each, for `rows` rows of `values` floats.
  std::vector<RowSum> add(const std::vector<Part> &parts, std::size_t rows, std::size_t values, std::size_t most);

private:
  struct Contribution {
    std::size_t part, row; // the row's place in the part
  };
  unsigned leastLoaded(const Contribution *begin, const Contribution *end, const std::vector<Part> &parts,
                       std::size_t work, std::vector<std::size_t> &load) const;

  poplar::Graph &graph_;
  poplar::DebugNameAndId dnai_;
  poplar::ComputeSet onTile_, between_;
  bool betweenUsed_ = false;
  std::vector<std::size_t> load_, loadBetween_; // values added so far by each tile in the last stages, and between
};

// A vertex that adds `count` parts of `values` floats each (an even number): out [values].
void addSumVertex(poplar::Graph &graph, poplar::ComputeSet set, unsigned tile, const poplar::Tensor &parts,
                  std::size_t count, std::size_t values, const poplar::Tensor &out);

} // namespace proxy_norm
