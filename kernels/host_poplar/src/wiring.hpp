// A vertex with its edges resolved: where each field's bytes lie, and whether the vertex can use them in place.
#pragma once

#include "vertex_type.hpp"

#include <poplar/Graph.hpp>

#include <vector>

namespace poplar {
namespace host {

struct Edge {
  const Field *field;
  const Elements *elements;
  unsigned elementBytes;
  // One aligned run of memory on the vertex's own tile: read and written in place. Everything else is copied to
  // or from a buffer on that tile, through the exchange where it lies elsewhere.
  bool inPlace;

  std::size_t bytes() const { return elements->size() * elementBytes; }
};

struct WiredVertex {
  const VertexInstance *instance;
  std::vector<Edge> edges;
};

// Every vertex of the graph by compute set. Throws for fields or tiles that are missing.
std::vector<std::vector<WiredVertex>> wire(const GraphContents &graph);

// Throws for vertices of one compute set that race with each other.
void checkRaces(const GraphContents &graph, const std::string &setName, const std::vector<WiredVertex> &vertices);

} // namespace host
} // namespace poplar
