#include "judge.hpp"

#include <poplar/exceptions.hpp>

#include <cstring>

namespace poplar {
namespace host {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr std::size_t kFence = 0; // the sanitiser watches the ends of the buffers, reads included
#else
constexpr std::size_t kFence = 64;
#endif
constexpr char kFenceByte = 0x6b;
constexpr char kFill[2] = {0x35, static_cast<char>(0xca)}; // differ in every bit

// A field's bytes on a tile, between fences.
class Buffer {
public:
  Buffer(const Bytes &content) : bytes_(content.size() + 2 * kFence, kFenceByte) {
    if (!content.empty())
      std::memcpy(data(), content.data(), content.size());
  }
  char *data() { return bytes_.data() + kFence; }
  std::size_t size() const { return bytes_.size() - 2 * kFence; }
  bool fencesStand() const {
    for (std::size_t i = 0; i < kFence; ++i)
      if (bytes_[i] != kFenceByte || bytes_[bytes_.size() - 1 - i] != kFenceByte)
        return false;
    return true;
  }

private:
  Bytes bytes_; // aligned as operator new aligns
};

struct Run {
  std::vector<Bytes> outputs;
};

// What one worker leaves in outputs that were filled with `fill`.
Run runWorker(const WiredVertex &vertex, const std::vector<Bytes> &inputs, unsigned worker, char fill,
              const std::string &where) {
  std::vector<Buffer> buffers;
  std::vector<char *> data;
  for (std::size_t e = 0; e < vertex.edges.size(); ++e) {
    const Edge &edge = vertex.edges[e];
    buffers.emplace_back(edge.field->kind == FieldKind::Input ? inputs[e] : Bytes(edge.bytes(), fill));
  }
  for (Buffer &buffer : buffers)
    data.push_back(buffer.data());
  const std::shared_ptr<void> object = instantiate(vertex, data);
  vertex.instance->type->compute(object.get(), worker);
  Run run{std::vector<Bytes>(vertex.edges.size())};
  for (std::size_t e = 0; e < vertex.edges.size(); ++e) {
    const std::string field = "field '" + vertex.edges[e].field->name + "'";
    if (!buffers[e].fencesStand())
      throw poplar_error(where + ": a write beyond the ends of " + field);
    if (vertex.edges[e].field->kind == FieldKind::Output)
      run.outputs[e].assign(data[e], data[e] + buffers[e].size());
    else if (buffers[e].size() && std::memcmp(data[e], inputs[e].data(), buffers[e].size()) != 0)
      throw poplar_error(where + ": a write to the input " + field);
  }
  return run;
}

} // namespace

std::shared_ptr<void> instantiate(const WiredVertex &vertex, const std::vector<char *> &data) {
  const VertexType &type = *vertex.instance->type;
  const std::shared_ptr<void> object = type.create();
  for (const auto &state : vertex.instance->state)
    type.find(state.first)->set(object.get(), state.second);
  for (std::size_t e = 0; e < vertex.edges.size(); ++e)
    vertex.edges[e].field->bind(object.get(), data[e], vertex.edges[e].elements->size());
  return object;
}

std::vector<Bytes> judged(const WiredVertex &vertex, const std::vector<Bytes> &inputs) {
  const VertexType &type = *vertex.instance->type;
  const std::string where = "vertex " + type.name + " on tile " + std::to_string(vertex.instance->tile);
  constexpr int nobody = -1;
  std::vector<Bytes> result(vertex.edges.size());
  std::vector<std::vector<int>> byteWriter(vertex.edges.size()), wordWriter(vertex.edges.size());
  for (std::size_t e = 0; e < vertex.edges.size(); ++e)
    if (vertex.edges[e].field->kind == FieldKind::Output) {
      result[e].resize(vertex.edges[e].bytes());
      byteWriter[e].assign(result[e].size(), nobody);
      wordWriter[e].assign(result[e].size() / 4 + 1, nobody);
    }
  for (unsigned worker = 0; worker < (type.multi ? MultiVertex::numWorkers() : 1u); ++worker) {
    const Run a = runWorker(vertex, inputs, worker, kFill[0], where);
    const Run b = runWorker(vertex, inputs, worker, kFill[1], where);
    for (std::size_t e = 0; e < vertex.edges.size(); ++e)
      for (std::size_t i = 0; i < a.outputs[e].size(); ++i) {
        const char first = a.outputs[e][i], second = b.outputs[e][i];
        const std::string field = "field '" + vertex.edges[e].field->name + "'";
        if (first == kFill[0] && second == kFill[1])
          continue; // untouched
        if (first != second)
          throw poplar_error(where + ": worker " + std::to_string(worker) + " reads the output " + field +
                             " before it has written it, at byte " + std::to_string(i));
        int &owner = wordWriter[e][i / 4];
        if (owner != nobody && owner != int(worker))
          throw poplar_error(where + ": race: workers " + std::to_string(owner) + " and " +
                             std::to_string(worker) + " store to one 32-bit word of " + field + ", at byte " +
                             std::to_string(i));
        owner = int(worker);
        byteWriter[e][i] = int(worker);
        result[e][i] = first;
      }
  }
  for (std::size_t e = 0; e < vertex.edges.size(); ++e)
    for (std::size_t i = 0; i < byteWriter[e].size(); ++i)
      if (byteWriter[e][i] == nobody)
        throw poplar_error(where + ": nobody writes field '" + vertex.edges[e].field->name + "', byte " +
                           std::to_string(i));
  return result;
}

} // namespace host
} // namespace poplar
