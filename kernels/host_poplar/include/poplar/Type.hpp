#pragma once

#include <cstddef>
#include <string>

namespace poplar {

class Type {
public:
  constexpr Type(const char *name, unsigned bytes) : name_(name), bytes_(bytes) {}
  std::string toString() const { return name_; }
  bool operator==(const Type &other) const { return toString() == other.toString(); }
  bool operator!=(const Type &other) const { return !(*this == other); }
  unsigned hostBytes() const { return bytes_; } // of this host implementation only: ask the Target elsewhere

private:
  const char *name_;
  unsigned bytes_;
};

inline constexpr Type FLOAT("float", 4), HALF("half", 2), INT("int", 4), UNSIGNED_INT("unsigned int", 4),
    UNSIGNED_SHORT("unsigned short", 2), BOOL("bool", 1);

} // namespace poplar
