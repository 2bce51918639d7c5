// Names that tell a profile which operation a tensor, a vertex or a program belongs to.
#pragma once

#include "StringRef.hpp"

#include <string>

namespace poplar {

// Where in the sources a name was given: not kept here.
class SourceLocation {
public:
  static SourceLocation Current() { return {}; }
};

class DebugNameAndId {
public:
  DebugNameAndId(std::string name = "") : name_(std::move(name)) {}
  DebugNameAndId(const char *name) : name_(name) {}
  DebugNameAndId(const DebugNameAndId &parent, StringRef name = "") : name_(parent.name_) {
    const std::string own = name;
    name_ += (name_.empty() || own.empty() ? "" : "/") + own;
  }
  DebugNameAndId &operator=(const DebugNameAndId &) = default;
  std::string getPathName() const { return name_; }

private:
  std::string name_;
};

class DebugContext {
public:
  DebugContext(SourceLocation = SourceLocation::Current()) {}
  DebugContext(const char *name, SourceLocation = SourceLocation::Current()) : name_(name) {}
  DebugContext(StringRef name, SourceLocation = SourceLocation::Current()) : name_(name) {}
  DebugContext(std::string name, SourceLocation = SourceLocation::Current()) : name_(std::move(name)) {}
  DebugContext(const DebugNameAndId &parent, std::string name = "", SourceLocation = SourceLocation::Current())
      : name_(DebugNameAndId(parent, name).getPathName()) {}
  DebugContext(DebugContext &&) = default; // and not copied
  std::string getPathName() const { return name_; }

private:
  std::string name_;
};

} // namespace poplar
