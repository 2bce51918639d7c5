// The passes over the activations, and the sums between them: each adds vertices to compute sets that its caller
// orders and executes.
#pragma once

#include "graph.hpp"
#include "layout.hpp"
#include "reduce.hpp"

#include <cstddef>
#include <map>
#include <string>
#include <vector>

namespace proxy_norm {

// A tensor of activations as the passes see it: its runs and what describes them on each tile.
class Activations {
public:
  Activations(const Site &site, const poplar::Tensor &x, unsigned groups);
  const Shape shape;
  const poplar::Tensor x;
  const std::vector<TileRun> &runs() const { return runs_; }

  // Of another tensor of this shape, in the same order. One whose channels lie otherwise is brought into this layout
  // first: its intervals would be as many as its elements.
  poplar::Tensor ordered(const Site &site, const poplar::Tensor &other) const;
  // A new tensor laid out as this one, and its elements in the same order.
  poplar::Tensor cloned(const Site &site, const char *name, poplar::Tensor &order) const;

  // A vertex for a run, with the fields that all passes share, and its rows of tensors [allRows].
  poplar::VertexRef add(const Site &site, poplar::ComputeSet set, const std::string &name, std::size_t run) const;
  void connectElements(const Site &site, poplar::VertexRef vertex, const char *field, const poplar::Tensor &order,
                       std::size_t run) const;
  void connectRows(const Site &site, poplar::VertexRef vertex, const char *field, const poplar::Tensor &rows,
                   std::size_t run) const;
  void connectPlaces(const Site &site, poplar::VertexRef vertex, bool channels, std::size_t run) const;

private:
  std::vector<Block> blocks_;
  poplar::Tensor order_;
  std::vector<TileRun> runs_;
  std::vector<poplar::Tensor> pieces_;
};

// Views of vectors of channels or groups with an entry for each row.
poplar::Tensor channelRows(const Shape &shape, const poplar::Tensor &byChannel);
poplar::Tensor groupRows(const Shape &shape, const poplar::Tensor &byGroup);

// The statistics of the group norm, [N * G] each.
struct GroupStatistics {
  poplar::Tensor mean, inverse;
};
// Some elements of each group, [N * G, count].
poplar::Tensor groupSamples(const Shape &shape, const poplar::Tensor &x);
std::vector<Part> addGroupSums(const Site &site, poplar::ComputeSet set, const Activations &activations,
                               const poplar::Tensor &samples);
GroupStatistics addFinishStatistics(const Site &site, poplar::ComputeSet set, const std::vector<RowSum> &sums,
                                    const poplar::Tensor &samples, const Shape &shape,
                                    const ProxySettings &settings);

// What an element needs to know, by the vertices' field names, [allRows] each of the activations' type.
using Coefficients = std::map<std::string, poplar::Tensor>;
Coefficients addForwardCoefficients(const Site &site, poplar::ComputeSet set, const Activations &activations,
                                    const GroupStatistics &groups, const poplar::Tensor &beta,
                                    const poplar::Tensor &gamma, const Statistics &statistics,
                                    const ProxySettings &settings);
Coefficients addBackwardCoefficients(const Site &site, poplar::ComputeSet set, const Activations &activations,
                                     const GroupStatistics &groups, const poplar::Tensor &beta,
                                     const poplar::Tensor &gamma, const Statistics &statistics,
                                     const ProxySettings &settings);

poplar::Tensor addForward(const Site &site, poplar::ComputeSet set, const Activations &activations,
                          const Coefficients &coefficients, const ProxySettings &settings);

// The backward sums: by channel (rows of [C], four values) and by group (rows of [N * G], two values). `partials` are
// the tensors to be written. gradX, laid out like x, keeps the incoming gradient times the activation's derivative:
// what is dear to compute (a sigmoid) is computed once, and nothing of full size is kept beside it.
struct BackwardParts {
  std::vector<Part> byChannel, byGroup;
  poplar::Tensor gradX, order; // and its elements in the order of memory
};
BackwardParts addBackwardSums(const Site &site, poplar::ComputeSet set, const Activations &activations,
                              const poplar::Tensor &grad, const Coefficients &coefficients,
                              const GroupStatistics &groups, const ProxySettings &settings);

// Turns gradX into the gradient of x, with `byU` and `constant` of the groups ([N * G]).
struct GroupTerms {
  poplar::Tensor byU, constant;
};
GroupTerms addFinishGroups(const Site &site, poplar::ComputeSet set, const std::vector<RowSum> &sums,
                           const GroupStatistics &groups, const Activations &activations);
void addBackwardInput(const Site &site, poplar::ComputeSet set, const Activations &activations,
                      const BackwardParts &parts, const Coefficients &coefficients, const GroupTerms &terms,
                      const ProxySettings &settings);

// Gradients of beta, gamma (of `type`), m and s from the channels' sums.
struct ChannelGradients {
  poplar::Tensor beta, gamma;
  Statistics statistics;
};
ChannelGradients addFinishChannels(const Site &site, poplar::ComputeSet set, const std::vector<RowSum> &sums,
                                   const poplar::Tensor &beta, const poplar::Tensor &gamma,
                                   const Statistics &statistics, const poplar::Type &type,
                                   const ProxySettings &settings);

// Says of some parts' partial sums that their old contents do not matter: a vertex reads what it has written there.
void forget(const Site &site, const std::vector<Part> &parts);

} // namespace proxy_norm
