#include "judge.hpp"

#include <poplar/exceptions.hpp>

#include <cstring>

// Of the sanitizer's library, if it is in this process.
extern "C" {
__attribute__((weak)) void __asan_poison_memory_region(void const volatile *begin, std::size_t size);
__attribute__((weak)) void __asan_unpoison_memory_region(void const volatile *begin, std::size_t size);
}

namespace poplar {
namespace host {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr std::size_t kFence = 0; // the sanitiser watches the ends of the buffers, reads included
#else
constexpr std::size_t kFence = 64;
#endif
// Two settings of everything that a vertex must not depend on. The first fence is a NaN of every type of float, the
// second an ordinary number; the contents differ in every bit.
struct Setting {
  char fence, fill;
};
constexpr Setting kFirst = {static_cast<char>(0xff), 0x35};
constexpr Setting kSecond = {0x2b, static_cast<char>(0xca)};

// A field's bytes on a tile, between fences.
class Buffer {
public:
  Buffer(const Content &content, const Setting &setting)
      : fence_(setting.fence), bytes_(content.bytes.size() + 2 * kFence, setting.fence) {
    for (std::size_t i = 0; i < content.bytes.size(); ++i)
      data()[i] = i < content.known.size() && content.known[i] ? content.bytes[i] : setting.fill;
  }
  char *data() { return bytes_.data() + kFence; }
  std::size_t size() const { return bytes_.size() - 2 * kFence; }
  bool fencesStand() const {
    for (std::size_t i = 0; i < kFence; ++i)
      if (bytes_[i] != fence_ || bytes_[bytes_.size() - 1 - i] != fence_)
        return false;
    return true;
  }

private:
  char fence_;
  Bytes bytes_; // aligned as operator new aligns
};

// Where vertices are watched by the address sanitizer and the rest is not, it is told of the fences.
void guard(std::vector<Buffer> &buffers, bool on) {
  const auto function = on ? __asan_poison_memory_region : __asan_unpoison_memory_region;
  if (function == nullptr)
    return;
  for (Buffer &buffer : buffers) {
    function(buffer.data() - kFence, kFence);
    function(buffer.data() + buffer.size(), kFence);
  }
}

// What one worker leaves in each field, and what was there before.
struct Run {
  std::vector<Bytes> before, after;
  bool touched(std::size_t e, std::size_t i) const { return before[e][i] != after[e][i]; }
};

Run runWorker(const WiredVertex &vertex, const std::vector<Content> &contents, unsigned worker,
              const Setting &setting, const std::string &where) {
  std::vector<Buffer> buffers;
  std::vector<char *> data;
  Run run;
  for (const Content &content : contents)
    buffers.emplace_back(content, setting);
  for (Buffer &buffer : buffers) {
    data.push_back(buffer.data());
    run.before.emplace_back(buffer.data(), buffer.data() + buffer.size());
  }
  const std::shared_ptr<void> object = instantiate(vertex, data);
  guard(buffers, true);
  vertex.instance->type->compute(object.get(), worker);
  guard(buffers, false);
  for (std::size_t e = 0; e < vertex.edges.size(); ++e) {
    const std::string field = "field '" + vertex.edges[e].field->name + "'";
    if (!buffers[e].fencesStand())
      throw poplar_error(where + ": a write beyond the ends of " + field);
    run.after.emplace_back(data[e], data[e] + buffers[e].size());
    if (!vertex.edges[e].field->writes() && run.after[e] != run.before[e])
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

void judge(const WiredVertex &vertex, std::vector<Content> &contents) {
  const VertexType &type = *vertex.instance->type;
  const std::string where = "vertex " + type.name + " on tile " + std::to_string(vertex.instance->tile);
  constexpr int nobody = -1;
  std::vector<Content> result = contents;
  std::vector<std::vector<int>> byteWriter(contents.size()), wordWriter(contents.size());
  for (std::size_t e = 0; e < contents.size(); ++e)
    if (vertex.edges[e].field->writes()) {
      byteWriter[e].assign(contents[e].bytes.size(), nobody);
      wordWriter[e].assign(contents[e].bytes.size() / 4 + 1, nobody);
      result[e].known.resize(contents[e].bytes.size(), 0);
    }
  for (unsigned worker = 0; worker < (type.multi ? MultiVertex::numWorkers() : 1u); ++worker) {
    const Run a = runWorker(vertex, contents, worker, kFirst, where);
    const Run b = runWorker(vertex, contents, worker, kSecond, where);
    for (std::size_t e = 0; e < contents.size(); ++e)
      for (std::size_t i = 0; i < byteWriter[e].size(); ++i) {
        if (!a.touched(e, i) && !b.touched(e, i))
          continue;
        const std::string field = "field '" + vertex.edges[e].field->name + "'";
        if (a.after[e][i] != b.after[e][i]) {
          const Run c = runWorker(vertex, contents, worker, {kSecond.fence, kFirst.fill}, where);
          const bool beyond = a.after[e][i] != c.after[e][i];
          throw poplar_error(where + ": worker " + std::to_string(worker) +
                             (beyond ? " reads beyond the ends of some field; it shows in the output "
                                     : " reads the output ") +
                             field + (beyond ? "" : " before it has written it") + ", at byte " +
                             std::to_string(i));
        }
        int &owner = wordWriter[e][i / 4];
        if (owner != nobody && owner != int(worker))
          throw poplar_error(where + ": race: workers " + std::to_string(owner) + " and " +
                             std::to_string(worker) + " store to one 32-bit word of " + field + ", at byte " +
                             std::to_string(i));
        owner = int(worker);
        byteWriter[e][i] = int(worker);
        result[e].bytes[i] = a.after[e][i];
        result[e].known[i] = 1;
      }
  }
  for (std::size_t e = 0; e < contents.size(); ++e)
    for (std::size_t i = 0; i < byteWriter[e].size(); ++i)
      if (byteWriter[e][i] == nobody && !vertex.edges[e].field->reads())
        throw poplar_error(where + ": nobody writes field '" + vertex.edges[e].field->name + "', byte " +
                           std::to_string(i));
  contents = std::move(result);
}

} // namespace host
} // namespace poplar
