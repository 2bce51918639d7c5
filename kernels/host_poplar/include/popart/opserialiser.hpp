#pragma once

#include <cstdint>
#include <map>
#include <sstream>
#include <string>

namespace popart {

class OpSerialiserBase {
public:
  virtual ~OpSerialiserBase() = default;
  // With six decimals, as PopART writes them: small numbers become equal.
  void appendAttribute(const std::string &key, float value) { hostAppend(key, std::to_string(value)); }
  void appendAttribute(const std::string &key, double value) { hostAppend(key, std::to_string(value)); }
  void appendAttribute(const std::string &key, int value) { hostAppend(key, value); }
  void appendAttribute(const std::string &key, int64_t value) { hostAppend(key, value); }
  void appendAttribute(const std::string &key, uint32_t value) { hostAppend(key, value); }
  void appendAttribute(const std::string &key, uint64_t value) { hostAppend(key, value); }
  void appendAttribute(const std::string &key, const std::string &value) { hostAppend(key, value); }
  void appendAttribute(const std::string &key, bool value) { hostAppend(key, value); }

  std::map<std::string, std::string> hostAttributes;

private:
  template <typename T> void hostAppend(const std::string &key, const T &value) {
    std::ostringstream text;
    text << value;
    hostAttributes[key] = text.str();
  }
};

} // namespace popart
