#include "codelet_path.hpp"

#include <cstdlib>
#include <fstream>
#include <stdexcept>

#include <dlfcn.h>

namespace proxy_norm {

std::string codeletPath() {
  Dl_info library;
  if (dladdr(reinterpret_cast<void *>(&codeletPath), &library) == 0 || library.dli_fname == nullptr)
    throw std::runtime_error("Proxy Norm: the folder of this library cannot be found");
  char *absolute = realpath(library.dli_fname, nullptr);
  const std::string path = absolute ? absolute : library.dli_fname;
  std::free(absolute);
  const std::string compiled = path.substr(0, path.find_last_of('/') + 1) + "proxy_norm_codelets.gp";
  // The source folder, given when the library is built.
  const std::string source = std::string(PROXY_NORM_SOURCE_FOLDER) + "/codelets.cpp";
  for (const std::string &candidate : {compiled, source})
    if (std::ifstream(candidate).good())
      return candidate;
  throw std::runtime_error("Proxy Norm: neither " + compiled + " nor " + source + " can be read");
}

} // namespace proxy_norm
