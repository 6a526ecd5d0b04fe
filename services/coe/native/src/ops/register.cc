// The entry point that ONNX Runtime calls when the library is registered with session options.
#include <mutex>

#include "coe/native.h"
#include "ops/tiered_ops.h"

namespace {

OrtStatus* make_domain(const OrtApi& api, OrtCustomOpDomain*& out) {
  using namespace coe::ops;
  OrtCustomOpDomain* domain = nullptr;
  if (OrtStatus* failed = api.CreateCustomOpDomain("ai.coe.tiered", &domain)) return failed;
  for (const OrtCustomOp* op :
       {describe<TieredEmbedding>(), describe<TieredRMSNorm>(), describe<TieredLinear>(), describe<TieredLMHead>(),
        describe<TieredGreedyHead>(), describe<PagedAttention>(), describe<TieredLayers>()})
    if (OrtStatus* failed = api.CustomOpDomain_Add(domain, op)) {
      api.ReleaseCustomOpDomain(domain);
      return failed;
    }
  out = domain;
  return nullptr;
}

OrtStatus* add_all(const OrtApi& api, OrtSessionOptions* options) {
  static std::mutex lock;
  // A domain must outlive every session that uses it: this one lives as long as the library.
  static OrtCustomOpDomain* domain = nullptr;
  {
    const std::lock_guard guard(lock);
    if (domain == nullptr)
      if (OrtStatus* failed = make_domain(api, domain)) return failed;
  }
  return api.AddCustomOpDomain(options, domain);
}

}  // namespace

extern "C" COE_API OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
  const OrtApi* api = base->GetApi(ORT_API_VERSION);
  if (api == nullptr) {
    // The runtime lacks our API version, so create the error status with the oldest one.
    const OrtApi* oldest = base->GetApi(1);
    if (oldest == nullptr) return nullptr;
    return oldest->CreateStatus(ORT_FAIL, "this ONNX Runtime is older than the headers libcoe_native was built with");
  }
  return add_all(*api, options);
}
