#include "codelet_path.hpp"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include <dlfcn.h>

namespace proxy_norm {

namespace {

std::string libraryPath() {
  Dl_info library;
  if (dladdr(reinterpret_cast<void *>(&codeletPath), &library) == 0 || library.dli_fname == nullptr)
    throw std::runtime_error("Proxy Norm: the folder of this library cannot be found");
  char *absolute = realpath(library.dli_fname, nullptr);
  const std::string path = absolute ? absolute : library.dli_fname;
  std::free(absolute);
  return path;
}

// The source folder, given when the library is built.
const std::string kSources = PROXY_NORM_SOURCE_FOLDER;
const char *const kIncluded[] = {"proxy_vertices.hpp", "pass_vertices.hpp", "sweep_tasks.hpp", "sweep.hpp",
                                 "ipu_vectors.hpp", "proxy_norm_math.hpp"}; // by codelets.cpp

// FNV-1a, 64 bits.
void addFile(std::uint64_t &hash, const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  for (std::istreambuf_iterator<char> at(file), end; at != end; ++at)
    hash = (hash ^ static_cast<unsigned char>(*at)) * 0x100000001b3u;
}

} // namespace

std::string codeletPath() {
  const std::string library = libraryPath();
  const std::string compiled = library.substr(0, library.find_last_of('/') + 1) + "proxy_norm_codelets.gp";
  const std::string source = kSources + "/codelets.cpp";
  for (const std::string &candidate : {compiled, source})
    if (std::ifstream(candidate).good())
      return candidate;
  throw std::runtime_error("Proxy Norm: neither " + compiled + " nor " + source + " can be read");
}

std::string codeHash() {
  static const std::string text = [] { // once: the files are read when the first model is compiled
    const std::string codelets = codeletPath();
    std::uint64_t hash = 0xcbf29ce484222325u;
    addFile(hash, libraryPath());
    addFile(hash, codelets);
    if (codelets == kSources + "/codelets.cpp")
      for (const char *name : kIncluded)
        addFile(hash, kSources + "/" + name);
    char digits[17];
    std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(hash));
    return std::string(digits);
  }();
  return text;
}

} // namespace proxy_norm
