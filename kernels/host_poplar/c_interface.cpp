// Sessions for ctypes. Functions return 0, or 1 with a message in `error` (of at least 1024 bytes).
#include "session.hpp"

#include "../proxy_norm/codelet_path.hpp"

#include <algorithm>
#include <cstring>
#include <sstream>

namespace {

constexpr std::size_t kErrorBytes = 1024;

template <typename F> int guarded(char *error, const F &body) {
  try {
    body();
    return 0;
  } catch (const std::exception &exception) {
    std::strncpy(error, exception.what(), kErrorBytes - 1);
    error[kErrorBytes - 1] = '\0';
    return 1;
  }
}

popart::DataType typeOf(const std::string &name) {
  if (name == "half")
    return popart::DataType::FLOAT16;
  if (name == "float")
    return popart::DataType::FLOAT;
  throw popart::error("tensors may be half or float, not {}", name);
}

// One line for each entry: a key, then its values.
host::Request parse(const char *text) {
  host::Request request;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string key, first, second;
    words >> key;
    if (key == "operator") {
      words >> request.domain >> request.type >> request.version;
    } else if (key == "input") {
      words >> first;
      popart::Shape shape;
      for (int64_t size; words >> size;)
        shape.push_back(size);
      request.inputs.emplace_back(typeOf(first), shape);
    } else if (key == "attribute") {
      words >> first >> second;
      int64_t integer = 0;
      float real = 0;
      std::string string;
      if (first == "int" && words >> integer)
        request.attributes.hostSet(second, integer);
      else if (first == "float" && words >> real)
        request.attributes.hostSet(second, real);
      else if (first == "string" && words >> string)
        request.attributes.hostSet(second, string);
      else
        throw popart::error("unreadable attribute '{}'", line);
    } else if (key == "tiles") {
      words >> request.tiles;
    } else if (key == "mapping") {
      words >> request.mapping >> request.gradientMapping;
    } else if (key == "unused") {
      for (int output; words >> output;)
        request.unused.push_back(output);
    } else if (key == "session_option") {
      words >> first;
      if (first != "groupNormStridedChannelGrouping")
        throw popart::error("no session option '{}' is known here", first);
      request.options.groupNormStridedChannelGrouping = true;
    } else if (key == "number") {
      words >> request.number;
    } else if (key == "judge") {
      words >> request.judge;
    } else {
      throw popart::error("unreadable line '{}'", line);
    }
  }
  return request;
}

template <typename T> std::vector<T> list(T const *pointers, int count) {
  return std::vector<T>(pointers, pointers + count);
}

struct Handle {
  std::unique_ptr<host::Session> session;
  std::string description, report;
};

} // namespace

extern "C" {

int host_session_create(const char *request, void **session, char *error) {
  return guarded(error, [&] {
    auto handle = std::make_unique<Handle>();
    handle->session = std::make_unique<host::Session>(parse(request));
    handle->description = handle->session->description();
    *session = handle.release();
  });
}

const char *host_session_description(void *session) { return static_cast<Handle *>(session)->description.c_str(); }

const char *host_session_report(void *session) { // takes a while for large tensors
  Handle *handle = static_cast<Handle *>(session);
  if (handle->report.empty())
    handle->report = handle->session->report();
  return handle->report.c_str();
}

int host_session_forward(void *session, const void *const *inputs, int inputCount, void *const *outputs,
                         int outputCount, char *error) {
  return guarded(error, [&] {
    static_cast<Handle *>(session)->session->forward.run(list(inputs, inputCount), list(outputs, outputCount));
  });
}

int host_session_backward(void *session, const void *const *inputs, int inputCount, void *const *outputs,
                          int outputCount, char *error) {
  return guarded(error, [&] {
    static_cast<Handle *>(session)->session->backward.run(list(inputs, inputCount), list(outputs, outputCount));
  });
}

const char *host_code_hash() {
  static const std::string hash = proxy_norm::codeHash();
  return hash.c_str();
}

// Builds operators, their descriptions parted by empty lines, into one graph. `bytes` [tiles] gets what the constants
// take on each tile.
int host_constants(const char *requests, long long *bytes, char *error) {
  return guarded(error, [&] {
    std::shared_ptr<popart::popx::IrLowering> lowering;
    const std::string all = requests;
    for (std::size_t begin = 0, end; begin < all.size(); begin = end + 2) {
      end = std::min(all.find("\n\n", begin), all.size());
      const host::Request request = parse(all.substr(begin, end - begin).c_str());
      if (!lowering)
        lowering = host::makeLowering(request.tiles);
      host::Session(request, lowering);
    }
    for (const poplar::host::Variable &variable : lowering->graph().hostContents().variables)
      if (variable.constant)
        for (const std::int32_t tile : variable.tiles)
          bytes[tile] += variable.type.hostBytes();
  });
}

void host_session_destroy(void *session) { delete static_cast<Handle *>(session); }
}
