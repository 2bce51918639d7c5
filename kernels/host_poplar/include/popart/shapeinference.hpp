#pragma once

#include "attributes.hpp"
#include "opidentifier.hpp"
#include "tensorinfo.hpp"

#include <functional>
#include <map>

namespace popart {

class ShapeInferenceContext {
public:
  ShapeInferenceContext(const std::map<int, TensorInfo> &inputs, const Attributes &attributes)
      : inputs_(inputs), attributes_(attributes) {}
  const TensorInfo &inInfo(int i) const { return inputs_.at(i); }
  const Shape &inShape(int i) const { return inInfo(i).shape(); }
  DataType inType(int i) const { return inInfo(i).dataType(); }
  TensorInfo &outInfo(int i) { return outputs_[i]; }
  const std::map<int, TensorInfo> &getOutputInfos() { return outputs_; }
  template <typename T> T getAttribute(const std::string &key, const T &otherwise) {
    return attributes_.getAttribute<T>(key, otherwise);
  }

private:
  std::map<int, TensorInfo> inputs_, outputs_;
  Attributes attributes_;
};

using ShapeInferenceFunction = std::function<void(ShapeInferenceContext &)>;

class RegisterShapeInferenceFunction {
public:
  RegisterShapeInferenceFunction(const OperatorIdentifier &opid, ShapeInferenceFunction function);
};

const ShapeInferenceFunction *hostShapeInference(const OperatorIdentifier &opid);

} // namespace popart
