// Names that tell a profile which operation a tensor, a vertex or a program belongs to.
#pragma once

#include "StringRef.hpp"

#include <string>

namespace poplar {

class DebugNameAndId {
public:
  DebugNameAndId() = default;
  DebugNameAndId(const std::string &name) : name_(name) {}
  DebugNameAndId(const char *name) : name_(name) {}
  DebugNameAndId(const DebugNameAndId &parent, const std::string &name)
      : name_(parent.name_.empty() || name.empty() ? parent.name_ + name : parent.name_ + "/" + name) {}
  std::string getPathName() const { return name_; }

private:
  std::string name_;
};

class DebugContext {
public:
  DebugContext() = default;
  DebugContext(const std::string &name) : name_(name) {}
  DebugContext(const char *name) : name_(name) {}
  DebugContext(const DebugNameAndId &parent, const std::string &name = "")
      : name_(name.empty() ? parent.getPathName() : DebugNameAndId(parent, name).getPathName()) {}
  std::string getPathName() const { return name_; }

private:
  std::string name_;
};

} // namespace poplar
