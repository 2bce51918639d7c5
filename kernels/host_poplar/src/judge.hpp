// Runs one vertex several times over, to see what each of its workers does.
#pragma once

#include "wiring.hpp"

#include <vector>

namespace poplar {
namespace host {

using Bytes = std::vector<char>;

// What a field holds: for those that are read, which bytes have been written by somebody (all of an Input's).
struct Content {
  Bytes bytes;
  std::vector<char> known;
};

// `contents` holds one entry for each edge, of the edge's size; those of Output and InOut are replaced by what the
// vertex leaves there. Throws when
// * the vertex changes an input, or writes beyond the ends of a field,
// * what it writes depends on what lies beyond the ends of a field,
// * what it writes depends on what an output, or an unknown part of an InOut, held before,
// * two workers store to one 32-bit word,
// * some element of an Output is written by nobody.
void judge(const WiredVertex &vertex, std::vector<Content> &contents);

// The vertex object with its state set and its edges bound to `data`.
std::shared_ptr<void> instantiate(const WiredVertex &vertex, const std::vector<char *> &data);

} // namespace host
} // namespace poplar
