#pragma once

#include "attributes.hpp"
#include "operatoridentifier.hpp"
#include "tensorinfo.hpp"

#include <functional>
#include <map>

namespace popart {

class ShapeInferenceContext {
public:
  ShapeInferenceContext(const std::map<int, TensorInfo> &inputs, const Attributes &attributes, int outputSize)
      : inputs_(inputs), attributes_(attributes), outputSize_(outputSize) {}
  const TensorInfo &inInfo(int i) const { return inputs_.at(i); }
  const Shape &inShape(int i) const { return inInfo(i).shape(); }
  DataType inType(int i) const { return inInfo(i).dataType(); }
  TensorInfo &outInfo(int i) { return outputs_[i]; }
  const std::map<int, TensorInfo> &getOutputInfos() { return outputs_; }
  const Attributes &getAttributes() const { return attributes_; }
  int getNumInputs() const { return int(inputs_.size()); }
  int getNumOutputs() const { return outputSize_; }
  // A tensor whose shape is not known yet has none, and so has a scalar.
  bool hasInputShape(std::size_t n) const { return std::size_t(getNumInputs()) > n && !inShape(int(n)).empty(); }
  bool hasNInputShapes(std::size_t n) const {
    for (std::size_t i = 0; i < n; ++i)
      if (!hasInputShape(i))
        return false;
    return true;
  }
  bool hasAttribute(const std::string &key) const { return attributes_.hasAttribute(key); }
  template <typename T> T getAttribute(const std::string &key) { return attributes_.getAttribute<T>(key); }
  template <typename T> T getAttribute(const std::string &key, const T &otherwise) {
    return attributes_.getAttribute<T>(key, otherwise);
  }

private:
  std::map<int, TensorInfo> inputs_, outputs_;
  Attributes attributes_;
  int outputSize_;
};

using ShapeInferenceFunction = std::function<void(ShapeInferenceContext &)>;

class RegisterShapeInferenceFunction {
public:
  RegisterShapeInferenceFunction(const OperatorIdentifier &opid, ShapeInferenceFunction function);
};

const ShapeInferenceFunction *hostShapeInference(const OperatorIdentifier &opid);

} // namespace popart
