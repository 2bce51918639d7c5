#pragma once

#include <map>
#include <sstream>
#include <string>

namespace popart {

class OpSerialiserBase {
public:
  template <typename T> void appendAttribute(const std::string &key, const T &value) {
    std::ostringstream text;
    text << value;
    hostAttributes[key] = text.str();
  }
  std::map<std::string, std::string> hostAttributes;
};

} // namespace popart
