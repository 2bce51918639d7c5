// Runs one vertex several times over, to see what each of its workers does.
#pragma once

#include "wiring.hpp"

#include <vector>

namespace poplar {
namespace host {

using Bytes = std::vector<char>;

// `inputs` and the result hold one entry for each edge, empty for those of the other kind. Returns the bytes of
// the outputs, and throws when
// * the vertex changes an input, or writes beyond the ends of a field,
// * what it writes depends on what an output held before,
// * two workers store to one 32-bit word,
// * some element of an output is written by nobody.
std::vector<Bytes> judged(const WiredVertex &vertex, const std::vector<Bytes> &inputs);

// The vertex object with its state set and its edges bound to `data`.
std::shared_ptr<void> instantiate(const WiredVertex &vertex, const std::vector<char *> &data);

} // namespace host
} // namespace poplar
