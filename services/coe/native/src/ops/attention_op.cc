// PagedAttention.
#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <tuple>

#include "base/team.h"
#include "ops/tiered_ops.h"

namespace coe::ops {

std::shared_ptr<RopeTable> shared_rope(float theta, size_t dim, const std::vector<float>& factors) {
  static std::mutex lock;
  static auto* tables = new std::map<std::tuple<float, size_t, std::vector<float>>, std::weak_ptr<RopeTable>>();
  const std::lock_guard guard(lock);
  auto& entry = (*tables)[{theta, dim, factors}];
  auto table = entry.lock();
  if (!table) {
    table = std::make_shared<RopeTable>(theta, dim, factors);
    entry = table;
  }
  return table;
}

Status read_step(const Context& context, size_t first, size_t tokens, const AttentionShape& shape, Step& step,
                 KvCache& kv) {
  Input positions;
  Input sequences;
  Input table;
  Input cache;
  if (auto status = context.input(first, 1, positions); !status.ok()) return status;
  if (auto status = context.input(first + 1, 1, sequences); !status.ok()) return status;
  if (auto status = context.input(first + 2, 2, table); !status.ok()) return status;
  if (auto status = context.input(first + 3, 6, cache); !status.ok()) return status;
  if (positions.dim(0) != tokens || sequences.dim(0) != tokens)
    return invalid("positions and sequence_ids need one entry a token");
  if (cache.type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) {
    kv.type = KvType::kF32;
  } else if (cache.type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16) {
    kv.type = KvType::kF16;
  } else if (cache.type == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8) {
    kv.type = KvType::kI8;
  } else {
    return invalid("the kv cache must be float32, float16 or int8");
  }
  if (cache.dim(2) != 2 || cache.dim(3) != shape.kv_heads || cache.dim(4) != shape.block_size ||
      cache.dim(5) != kv_row(kv.type, shape.head_dim))
    return invalid("the kv cache is not [layers, blocks, 2, kv_heads, block_size, head_dim] (int8: head_dim + 4)");
  kv.data = const_cast<void*>(cache.data);
  kv.layers = cache.dim(0);
  kv.blocks = cache.dim(1);
  step = {tokens, positions.ints(), sequences.ints(), table.ints(), table.dim(0), table.dim(1)};
  return {};
}

Status AttentionAt::init(Attributes& attributes) {
  shape.layer = static_cast<size_t>(attributes.integer("layer"));
  shape.heads = static_cast<size_t>(attributes.integer("num_heads"));
  shape.kv_heads = static_cast<size_t>(attributes.integer("num_kv_heads"));
  shape.head_dim = static_cast<size_t>(attributes.integer("head_dim"));
  shape.block_size = static_cast<size_t>(attributes.integer("block_size"));
  shape.scale = attributes.real("scale");
  shape.window = attributes.integer_or("window", 0);
  shape.softcap = attributes.real_or("softcap", 0.0F);
  shape.epsilon = attributes.real_or("epsilon", 1e-6F);
  q_norm_offset = attributes.integer_or("q_norm_offset", kAbsent);
  k_norm_offset = attributes.integer_or("k_norm_offset", kAbsent);
  const float theta = attributes.real("rope_theta");
  const auto dim = static_cast<size_t>(attributes.integer_or("rope_dim", static_cast<int64_t>(shape.head_dim)));
  const auto factors = attributes.reals("rope_factors");
  if (auto status = shape.validate(); !status.ok()) return status;
  if (dim == 0 || dim % 2 != 0 || dim > shape.head_dim) return invalid("rope_dim must be even and at most head_dim");
  if (!factors.empty() && factors.size() != dim / 2) return invalid("rope_factors needs rope_dim / 2 values");
  // Tables are looked up by these values, and comparisons with a NaN would match any table.
  const auto is_positive = [](float value) { return value > 0 && std::isfinite(value); };
  if (!is_positive(theta) || !std::all_of(factors.begin(), factors.end(), is_positive))
    return invalid("rope_theta and rope_factors must be positive numbers");
  rope = shared_rope(theta, dim, factors);
  return {};
}

Status AttentionAt::run(Crew& crew, unsigned threads, const Lease& lease, const Step& step, const KvCache& kv,
                        const float* qkv, float* out, Workspace& workspace) const {
  AttentionWeights weights;
  if (auto status = find_floats(lease, q_norm_offset, shape.head_dim, weights.q_norm); !status.ok()) return status;
  if (auto status = find_floats(lease, k_norm_offset, shape.head_dim, weights.k_norm); !status.ok()) return status;
  thread_local AttentionPlan plan;
  if (auto status = plan.build(shape, step, kv, threads); !status.ok()) return status;
  const AttentionScratch scratch = allocate_attention(shape, plan, step.tokens, workspace);
  run_attention(crew, shape, plan, weights, *rope, step, kv, qkv, out, scratch);
  return {};
}

Status PagedAttention::compute(const Context& context) const {
  Lease lease;
  Input qkv;
  Step step;
  KvCache kv;
  float* out = nullptr;
  const AttentionShape& shape = attention_.shape;
  if (auto status = resolve_lease(context, lease); !status.ok()) return status;
  if (auto status = context.input(1, 2, qkv); !status.ok()) return status;
  const size_t tokens = qkv.dim(0);
  if (qkv.dim(1) != shape.qkv_width()) return invalid("qkv has another width than the heads need");
  if (auto status = read_step(context, 2, tokens, shape, step, kv); !status.ok()) return status;
  if (auto status = context.output(0, {tokens, shape.heads * shape.head_dim}, out); !status.ok()) return status;
  const auto team = process_team();
  Crew crew(*team);
  if (auto status = attention_.run(crew, team->threads(), lease, step, kv, qkv.floats(), out, run_workspace());
      !status.ok())
    return status;
  return lease.check();
}

}  // namespace coe::ops
