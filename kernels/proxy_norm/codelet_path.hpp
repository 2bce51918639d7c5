#pragma once

#include <string>

namespace proxy_norm {

// The vertices' code: proxy_norm_codelets.gp beside this shared library if it is there (compiled ahead by popc),
// else the source file, which Poplar compiles whenever a model is compiled. Absolute, as Poplar resolves paths
// relative to the process's folder.
std::string codeletPath();

// A hash of this library's file and of the vertices' code (sixteen hexadecimal digits): an executable compiled with
// other code must not be taken from a cache.
std::string codeHash();

} // namespace proxy_norm
