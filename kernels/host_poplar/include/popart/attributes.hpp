#pragma once

#include "error.hpp"
#include "names.hpp"

#include <map>
#include <string>
#include <vector>

namespace popart {

class Attributes {
public:
  using Int = int64_t;
  using Float = float;
  using String = std::string;

  bool hasAttribute(const std::string &key) const {
    return ints_.count(key) || floats_.count(key) || strings_.count(key);
  }
  std::vector<std::string> getNames() const {
    std::vector<std::string> names;
    for (const auto &entry : ints_)
      names.push_back(entry.first);
    for (const auto &entry : floats_)
      names.push_back(entry.first);
    for (const auto &entry : strings_)
      names.push_back(entry.first);
    return names;
  }

  template <typename T> T getAttribute(const std::string &key, const T &otherwise) const {
    return hasAttribute(key) ? getAttribute<T>(key) : otherwise;
  }
  template <typename T> T getAttribute(const std::string &key) const {
    const auto &values = valuesOf(static_cast<T *>(nullptr));
    const auto found = values.find(key);
    if (found == values.end())
      throw error("attribute '{}' is missing, or of another type", key);
    return found->second;
  }
  void hostSet(const std::string &key, Int value) { ints_[key] = value; }
  void hostSet(const std::string &key, Float value) { floats_[key] = value; }
  void hostSet(const std::string &key, const String &value) { strings_[key] = value; }

private:
  const std::map<std::string, Int> &valuesOf(Int *) const { return ints_; }
  const std::map<std::string, Float> &valuesOf(Float *) const { return floats_; }
  const std::map<std::string, String> &valuesOf(String *) const { return strings_; }

  std::map<std::string, Int> ints_;
  std::map<std::string, Float> floats_;
  std::map<std::string, String> strings_;
};

} // namespace popart
