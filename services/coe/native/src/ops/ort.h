// Thin wrappers for the parts of ONNX Runtime's C API that our ops need: attributes, tensors, and the op's description.
// Only the C API is used: it never throws, and an op built with old headers loads in newer runtimes.
#pragma once

#include <onnxruntime_c_api.h>

#include <array>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"

namespace coe::ops {

inline constexpr size_t kMaxRank = 8;

struct Shape {
  std::array<int64_t, kMaxRank> dims{};
  size_t rank = 0;
};

struct Input {
  const void* data = nullptr;  // null: the optional input is absent
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  Shape shape;

  [[nodiscard]] size_t dim(size_t i) const { return static_cast<size_t>(shape.dims[i]); }
  [[nodiscard]] const float* floats() const { return static_cast<const float*>(data); }
  [[nodiscard]] const int64_t* ints() const { return static_cast<const int64_t*>(data); }
};

// Attributes of a node. The first failure is kept in status().
class Attributes {
 public:
  Attributes(const OrtApi& api, const OrtKernelInfo* info) : api_(api), info_(info) {}
  // Prefix of all names looked up from now on: an op with several linears has a set of attributes for each.
  void set_prefix(std::string prefix) { prefix_ = std::move(prefix); }
  int64_t integer(const char* name);
  int64_t integer_or(const char* name, int64_t otherwise);
  float real(const char* name);
  float real_or(const char* name, float otherwise);
  std::string text(const char* name, const char* otherwise = nullptr);
  std::vector<float> reals(const char* name);
  [[nodiscard]] const Status& status() const { return status_; }

 private:
  bool found(OrtStatus* status, const char* name, bool required);
  const OrtApi& api_;
  const OrtKernelInfo* info_;
  std::string prefix_;
  Status status_;
};

// One execution of a node.
class Context {
 public:
  Context(const OrtApi& api, OrtKernelContext* context) : api_(api), context_(context) {}
  // The tensor's rank must match `rank`. An absent optional input has no data.
  Status input(size_t index, size_t rank, Input& out) const;
  template <class T>
  Status output(size_t index, std::initializer_list<size_t> dims, T*& out) const {
    void* data = nullptr;
    auto status = raw_output(index, dims, data);
    out = static_cast<T*>(data);
    return status;
  }

 private:
  Status raw_output(size_t index, std::initializer_list<size_t> dims, void*& out) const;
  [[nodiscard]] Status take(OrtStatus* status) const;
  const OrtApi& api_;
  OrtKernelContext* context_;
};

OrtStatus* to_ort(const OrtApi& api, const Status& status);

// An input or output of an op: its element type (UNDEFINED: any), and whether it may be absent.
struct ValueKind {
  ONNXTensorElementDataType type;
  bool optional = false;
};
inline constexpr ValueKind kInts{ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64};
inline constexpr ValueKind kFloats{ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT};
inline constexpr ValueKind kMaybeFloats{ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, true};
inline constexpr ValueKind kAny{ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED};

// The OrtCustomOp of an Op with `kName`, `kInputs`, `kOutputs`, `Status init(Attributes&)` and
// `Status compute(const Context&)`; compute may run on several threads at once.
template <class Op>
const OrtCustomOp* describe() {
  struct Kernel {
    const OrtApi& api;
    Op op;
  };
  static const OrtCustomOp description = [] {
    OrtCustomOp d{};
    d.version = ORT_API_VERSION;
    d.GetName = [](const OrtCustomOp*) { return Op::kName; };
    d.GetExecutionProviderType = [](const OrtCustomOp*) { return "CPUExecutionProvider"; };
    d.GetInputTypeCount = [](const OrtCustomOp*) { return Op::kInputs.size(); };
    d.GetInputType = [](const OrtCustomOp*, size_t i) { return Op::kInputs[i].type; };
    d.GetInputCharacteristic = [](const OrtCustomOp*, size_t i) {
      return Op::kInputs[i].optional ? INPUT_OUTPUT_OPTIONAL : INPUT_OUTPUT_REQUIRED;
    };
    d.GetInputMemoryType = [](const OrtCustomOp*, size_t) { return OrtMemTypeDefault; };
    d.GetOutputTypeCount = [](const OrtCustomOp*) { return Op::kOutputs.size(); };
    d.GetOutputType = [](const OrtCustomOp*, size_t i) { return Op::kOutputs[i].type; };
    d.GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
    d.GetVariadicInputMinArity = [](const OrtCustomOp*) { return 1; };
    d.GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 1; };
    d.GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 1; };
    d.GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 1; };
    d.GetStartVersion = [](const OrtCustomOp*) { return 1; };
    d.GetEndVersion = [](const OrtCustomOp*) { return 1; };
    d.CreateKernelV2 = [](const OrtCustomOp*, const OrtApi* api, const OrtKernelInfo* info,
                          void** kernel) -> OrtStatus* {
      try {
        auto made = std::make_unique<Kernel>(Kernel{*api, Op()});
        Attributes attributes(*api, info);
        Status status = made->op.init(attributes);
        if (!attributes.status().ok()) status = attributes.status();
        if (status.ok()) *kernel = made.release();
        return to_ort(*api, status);
      } catch (const std::exception& error) {
        return api->CreateStatus(ORT_FAIL, error.what());
      }
    };
    d.KernelComputeV2 = [](void* kernel, OrtKernelContext* context) -> OrtStatus* {
      auto& k = *static_cast<Kernel*>(kernel);
      try {
        return to_ort(k.api, k.op.compute(Context(k.api, context)));
      } catch (const std::exception& error) {
        return k.api.CreateStatus(ORT_FAIL, error.what());
      }
    };
    d.KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
    return d;
  }();
  return &description;
}

}  // namespace coe::ops
