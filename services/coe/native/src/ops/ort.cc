#include "ops/ort.h"

namespace coe::ops {
namespace {

// Returns the message of a failed call and releases its status.
std::string message_of(const OrtApi& api, OrtStatus* status) {
  std::string message = api.GetErrorMessage(status);
  api.ReleaseStatus(status);
  return message;
}

}  // namespace

bool Attributes::found(OrtStatus* status, const char* name, bool required) {
  if (status == nullptr) return true;
  const std::string message = message_of(api_, status);
  if (required && status_.ok()) status_ = invalid("attribute " + prefix_ + name + ": " + message);
  return false;
}

int64_t Attributes::integer(const char* name) {
  int64_t value = 0;
  found(api_.KernelInfoGetAttribute_int64(info_, (prefix_ + name).c_str(), &value), name, true);
  return value;
}

int64_t Attributes::integer_or(const char* name, int64_t otherwise) {
  int64_t value = 0;
  return found(api_.KernelInfoGetAttribute_int64(info_, (prefix_ + name).c_str(), &value), name, false) ? value
                                                                                                        : otherwise;
}

float Attributes::real(const char* name) {
  float value = 0;
  found(api_.KernelInfoGetAttribute_float(info_, (prefix_ + name).c_str(), &value), name, true);
  return value;
}

float Attributes::real_or(const char* name, float otherwise) {
  float value = 0;
  return found(api_.KernelInfoGetAttribute_float(info_, (prefix_ + name).c_str(), &value), name, false) ? value
                                                                                                        : otherwise;
}

std::string Attributes::text(const char* name, const char* otherwise) {
  std::array<char, 64> buffer{};
  size_t size = buffer.size();
  if (found(api_.KernelInfoGetAttribute_string(info_, (prefix_ + name).c_str(), buffer.data(), &size), name,
            otherwise == nullptr))
    return buffer.data();
  return otherwise != nullptr ? otherwise : "";
}

std::vector<float> Attributes::reals(const char* name) {
  size_t size = 0;
  if (!found(api_.KernelInfoGetAttributeArray_float(info_, (prefix_ + name).c_str(), nullptr, &size), name, false))
    return {};
  std::vector<float> values(size);
  if (size != 0)
    found(api_.KernelInfoGetAttributeArray_float(info_, (prefix_ + name).c_str(), values.data(), &size), name, true);
  return values;
}

Status Context::take(OrtStatus* status) const {
  return status == nullptr ? Status() : Status(Code::kInternal, message_of(api_, status));
}

Status Context::input(size_t index, size_t rank, Input& out) const {
  const OrtValue* value = nullptr;
  size_t count = 0;
  if (auto status = take(api_.KernelContext_GetInputCount(context_, &count)); !status.ok()) return status;
  if (index >= count) return {};
  if (auto status = take(api_.KernelContext_GetInput(context_, index, &value)); !status.ok()) return status;
  if (value == nullptr) return {};
  OrtTensorTypeAndShapeInfo* info = nullptr;
  if (auto status = take(api_.GetTensorTypeAndShape(value, &info)); !status.ok()) return status;
  Status status = take(api_.GetDimensionsCount(info, &out.shape.rank));
  if (status.ok() && out.shape.rank != rank)
    status = invalid("input " + std::to_string(index) + " has rank " + std::to_string(out.shape.rank) + ", not " +
                     std::to_string(rank));
  if (status.ok()) status = take(api_.GetDimensions(info, out.shape.dims.data(), rank));
  if (status.ok()) status = take(api_.GetTensorElementType(info, &out.type));
  api_.ReleaseTensorTypeAndShapeInfo(info);
  void* data = nullptr;
  // Not const, because the KV cache is an input that is written in place.
  if (status.ok()) status = take(api_.GetTensorMutableData(const_cast<OrtValue*>(value), &data));
  out.data = data;
  return status;
}

Status Context::raw_output(size_t index, std::initializer_list<size_t> dims, void*& out) const {
  std::array<int64_t, kMaxRank> shape{};
  size_t rank = 0;
  for (const size_t dim : dims) shape[rank++] = static_cast<int64_t>(dim);
  OrtValue* value = nullptr;
  if (auto status = take(api_.KernelContext_GetOutput(context_, index, shape.data(), rank, &value)); !status.ok())
    return status;
  return take(api_.GetTensorMutableData(value, &out));
}

OrtStatus* to_ort(const OrtApi& api, const Status& status) {
  if (status.ok()) return nullptr;
  return api.CreateStatus(status.code() == Code::kInvalid ? ORT_INVALID_ARGUMENT : ORT_FAIL, status.message().c_str());
}

}  // namespace coe::ops
