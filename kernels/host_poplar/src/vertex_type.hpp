// What the host knows of a vertex class. C++ cannot list a class's fields, so a codelet file needs a companion
// that names them once more (see vertices.cpp of the operators); a name that the class does not have fails to
// compile there, and one that was forgotten fails when a graph connects it.
#pragma once

#include <poplar/HalfFloat.hpp>
#include <poplar/Type.hpp>
#include <poplar/Vertex.hpp>

#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

namespace poplar {
namespace host {

enum class FieldKind { Input, Output, InOut, State };

struct Field {
  std::string name;
  FieldKind kind;
  Type type;
  unsigned align = 1;      // bytes
  unsigned stateBytes = 4; // of vertex state on the device: a pointer, a pointer and a length, or the value
  std::function<void(void *vertex, void *data, std::size_t size)> bind = {};
  std::function<void(void *vertex, double value)> set = {};

  bool reads() const { return kind == FieldKind::Input || kind == FieldKind::InOut; }
  bool writes() const { return kind == FieldKind::Output || kind == FieldKind::InOut; }
};

struct VertexType {
  std::string name, codeletFile;
  bool multi = false;
  std::vector<Field> fields;
  std::function<std::shared_ptr<void>()> create;
  std::function<void(void *vertex, unsigned worker)> compute;

  const Field *find(const std::string &field) const;
};

const VertexType *findVertexType(const std::string &name);
void addVertexType(VertexType type);

template <typename T> Type typeOf();
template <> inline Type typeOf<float>() { return FLOAT; }
template <> inline Type typeOf<half>() { return HALF; }
template <> inline Type typeOf<int>() { return INT; }
template <> inline Type typeOf<unsigned>() { return UNSIGNED_INT; }
template <> inline Type typeOf<unsigned short>() { return UNSIGNED_SHORT; }
template <> inline Type typeOf<bool>() { return BOOL; }

template <typename V> class Registration {
public:
  Registration(const std::string &name, const std::string &codeletFile) {
    type.name = name;
    type.codeletFile = codeletFile;
    type.multi = std::is_base_of<MultiVertex, V>::value;
    type.create = [] { return std::static_pointer_cast<void>(std::make_shared<V>()); };
    // Through a pointer that the compiler cannot follow: the code that a codelet file instantiates must be there, and
    // is what runs.
    static const volatile auto entry = &V::compute;
    const auto compute = entry;
    type.compute = [compute](void *vertex, unsigned worker) { run(*static_cast<V *>(vertex), compute, worker); };
  }
  ~Registration() { addVertexType(std::move(type)); }

  template <typename T, VectorLayout L, unsigned A, bool I>
  Registration &operator()(const char *name, Input<Vector<T, L, A, I>> V::*member) {
    return vector<T, L, A>(name, FieldKind::Input, member);
  }
  template <typename T, VectorLayout L, unsigned A, bool I>
  Registration &operator()(const char *name, Output<Vector<T, L, A, I>> V::*member) {
    return vector<T, L, A>(name, FieldKind::Output, member);
  }
  template <typename T, VectorLayout L, unsigned A, bool I>
  Registration &operator()(const char *name, InOut<Vector<T, L, A, I>> V::*member) {
    return vector<T, L, A>(name, FieldKind::InOut, member);
  }
  template <typename T> Registration &operator()(const char *name, T V::*member) {
    Field field{name, FieldKind::State, typeOf<std::remove_const_t<T>>()};
    field.stateBytes = sizeof(T);
    field.set = [member](void *vertex, double value) {
      const_cast<std::remove_const_t<T> &>(static_cast<V *>(vertex)->*member) = static_cast<T>(value);
    };
    type.fields.push_back(std::move(field));
    return *this;
  }

private:
  template <typename T, VectorLayout L, unsigned A, typename Member>
  Registration &vector(const char *name, FieldKind kind, Member V::*member) {
    Field field{name, kind, typeOf<T>()};
    field.align = A > sizeof(T) ? A : sizeof(T);
    field.stateBytes = L == VectorLayout::SPAN ? 8 : 4;
    field.bind = [member](void *vertex, void *data, std::size_t size) {
      (static_cast<V *>(vertex)->*member).bind(data, size);
    };
    type.fields.push_back(std::move(field));
    return *this;
  }

  static void run(V &vertex, void (V::*compute)(unsigned), unsigned worker) { (vertex.*compute)(worker); }
  static void run(V &vertex, void (V::*compute)(), unsigned) { (vertex.*compute)(); }

  VertexType type;
};

} // namespace host
} // namespace poplar
