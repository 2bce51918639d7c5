// The part of poplar::Graph that the operators use. Names, signatures and meaning are Poplar's; members whose
// names begin with "host" are this implementation's own.
#pragma once

#include "DebugContext.hpp"
#include "exceptions.hpp"
#include "Program.hpp"
#include "Target.hpp"
#include "Tensor.hpp"

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace poplar {

enum class CodeletFileType { PreprocessedAsmSource, AsmSource, CSource, CppSource, IrSource, Object, Auto };
enum class TensorCloneMethod { PRESERVE_ORDER_AND_ALIASES, CREATE_NEW_ORDER, PRESERVE_ORDER_UNLESS_ALIASES };

class VertexRef;

class FieldRef {
public:
  FieldRef(std::uint32_t vertex, std::string name) : vertex_(vertex), name_(std::move(name)) {}
  std::uint32_t hostVertex() const { return vertex_; }
  const std::string &hostName() const { return name_; }

private:
  std::uint32_t vertex_;
  std::string name_;
};

class VertexRef {
public:
  VertexRef() = default;
  explicit VertexRef(std::uint32_t id) : id_(id) {}
  FieldRef operator[](StringRef name) const { return FieldRef(id_, name); }
  std::uint32_t getId() const { return id_; }

private:
  std::uint32_t id_ = 0;
};

namespace host {
struct VertexType;

struct Variable {
  Type type;
  std::string name;
  std::vector<std::int32_t> tiles; // of each element, -1: not mapped yet
  bool constant = false;
  bool readOnly = false; // an input of an operator that works out of place
  std::vector<char> initial;
};

struct VertexInstance {
  const VertexType *type;
  std::uint32_t computeSet;
  std::int32_t tile = -1;
  std::map<std::string, Tensor> edges;
  std::map<std::string, double> state;
  std::uint64_t cycles = 0;
};

struct GraphContents {
  Target target;
  std::vector<Variable> variables;
  std::vector<VertexInstance> vertices;
  std::vector<std::string> computeSets;
  std::vector<std::string> codeletFiles;
};
} // namespace host

class Graph {
public:
  using TileToTensorMapping = std::vector<std::vector<Interval>>;

  explicit Graph(const Target &target);
  Graph(Graph &&) noexcept = default; // and not copied
  Graph &operator=(Graph &&) noexcept = default;

  const Target &getTarget() const { return contents_->target; }

  bool addCodelets(StringRef path, CodeletFileType type = CodeletFileType::Auto, StringRef compileFlags = "",
                   StringRef targetName = "");
  bool hasCodelet(StringRef vertexName) const;

  Tensor addVariable(const Type &type, ArrayRef<std::size_t> shape, const DebugContext &debugContext = {});
  template <typename T>
  Tensor addConstant(const Type &type, ArrayRef<std::size_t> shape, ArrayRef<T> values,
                     const DebugContext &debugContext = {}) {
    return hostConstant(type, shape, std::vector<double>(values.begin(), values.end()), debugContext);
  }
  template <typename T>
  Tensor addConstant(const Type &type, ArrayRef<std::size_t> shape, T value,
                     const DebugContext &debugContext = {}) {
    return hostConstant(type, shape, std::vector<double>(1, double(value)), debugContext);
  }
  Tensor clone(const Tensor &tensor, const DebugContext &debugContext = {},
               TensorCloneMethod method = TensorCloneMethod::PRESERVE_ORDER_UNLESS_ALIASES) {
    return clone(tensor.elementType(), tensor, debugContext, method);
  }
  Tensor clone(const Type &type, const Tensor &tensor, const DebugContext &debugContext = {},
               TensorCloneMethod method = TensorCloneMethod::PRESERVE_ORDER_UNLESS_ALIASES);

  void setTileMapping(const Tensor &tensor, unsigned tile);
  void setTileMapping(const Tensor &tensor, const TileToTensorMapping &mapping);
  void setTileMapping(VertexRef vertex, unsigned tile);
  TileToTensorMapping getTileMapping(const Tensor &tensor, bool requireComplete = true) const;

  // The regions of a flat tensor as runs of memory: each inner vector is one run, its intervals in memory order.
  std::vector<std::vector<Interval>> getSortedContiguousRegions(const Tensor &tensor,
                                                                ArrayRef<Interval> regions) const;

  ComputeSet addComputeSet(const DebugContext &debugContext = {});
  VertexRef addVertex(ComputeSet set, StringRef vertexName);
  struct ConnectionDesc {
    ConnectionDesc(StringRef field, Tensor tensor) : field(field), tensor(std::move(tensor)) {}
    std::string field;
    Tensor tensor;
  };
  VertexRef addVertex(ComputeSet set, StringRef vertexName, ArrayRef<ConnectionDesc> connections);
  void connect(FieldRef field, const Tensor &tensor);
  template <typename T> void setInitialValue(FieldRef field, T value) { hostState(field, double(value)); }
  void setPerfEstimate(const VertexRef &vertex, std::uint64_t cycles, std::uint64_t flops = 0);

  void hostSetReadOnly(const Tensor &tensor); // writing it is an error from now on
  const host::GraphContents &hostContents() const { return *contents_; }
  std::shared_ptr<const host::GraphContents> hostShare() const { return contents_; }

private:
  Tensor hostConstant(const Type &type, ArrayRef<std::size_t> shape, const std::vector<double> &values,
                      const DebugContext &debugContext);
  void hostState(const FieldRef &field, double value);
  std::uint32_t addHostVariable(host::Variable variable);
  Tensor wholeVariable(std::uint32_t id, ArrayRef<std::size_t> shape) const;

  std::shared_ptr<host::GraphContents> contents_;
};

} // namespace poplar
