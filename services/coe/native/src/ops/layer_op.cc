// TieredLayer.
#include "base/team.h"
#include "ops/tiered_ops.h"

namespace coe::ops {
namespace {

// One run of a layer: its linears one after the other, on the same crew and scratch.
struct LayerRun {
  Crew& crew;
  const Lease& lease;
  Workspace& workspace;
  size_t tokens;

  Status linear(const LinearAt& at, const float* x, const float* residual, float* out) const {
    Linear op;
    if (auto status = at.find(lease, op); !status.ok()) return status;
    run_linear(crew, op, x, tokens, residual, out, allocate_input(op, tokens, workspace));
    return {};
  }

  // out = residual + linear(x), normed first where the layer has a norm behind the linear.
  Status add_linear(const LinearAt& at, int64_t norm_offset, float epsilon, const float* x, const float* residual,
                    float* out) const {
    if (norm_offset == kAbsent) return linear(at, x, residual, out);
    const size_t cols = at.shape.outputs();
    const float* weight = nullptr;
    auto* raw = workspace.take<float>(tokens * cols);
    if (auto status = linear(at, x, nullptr, raw); !status.ok()) return status;
    if (auto status = find_floats(lease, norm_offset, cols, weight); !status.ok()) return status;
    norm_rows(raw, weight, tokens, cols, epsilon, residual, out);
    return {};
  }
};

}  // namespace

Status TieredLayer::init(Attributes& attributes) {
  for (const auto& [prefix, linear] : {std::pair{"qkv_", &qkv_}, std::pair{"attention_output_", &attention_output_},
                                       std::pair{"gate_up_", &gate_up_}, std::pair{"down_", &down_}}) {
    attributes.set_prefix(prefix);
    if (auto status = linear->init(attributes); !status.ok()) return status;
  }
  attributes.set_prefix("");
  if (auto status = attention_.init(attributes); !status.ok()) return status;
  post_attention_norm_offset_ = attributes.integer_or("post_attention_norm_offset", kAbsent);
  post_feed_forward_norm_offset_ = attributes.integer_or("post_feed_forward_norm_offset", kAbsent);
  epsilon_ = attributes.real_or("epsilon", 1e-6F);
  const size_t width = qkv_.shape.weights.cols;
  const AttentionShape& shape = attention_.shape;
  if (qkv_.shape.outputs() != shape.qkv_width() ||
      attention_output_.shape.weights.cols != shape.heads * shape.head_dim ||
      attention_output_.shape.outputs() != width || gate_up_.shape.weights.cols != width ||
      down_.shape.weights.cols != gate_up_.shape.outputs() || down_.shape.outputs() != width)
    return invalid("the shapes of the layer's linears don't fit each other");
  return {};
}

Status TieredLayer::compute(const Context& context) const {
  Lease lease;
  Input x;
  Step step;
  KvCache kv;
  float* out = nullptr;
  if (auto status = resolve_lease(context, lease); !status.ok()) return status;
  if (auto status = context.input(1, 2, x); !status.ok()) return status;
  const size_t tokens = x.dim(0);
  const size_t width = qkv_.shape.weights.cols;
  if (x.dim(1) != width) return invalid("x has another width than the layer");
  if (auto status = read_step(context, 2, tokens, attention_.shape, step, kv); !status.ok()) return status;
  if (auto status = context.output(0, {tokens, width}, out); !status.ok()) return status;
  const auto team = process_team();
  Crew crew(*team);
  Workspace& workspace = run_workspace();
  const LayerRun run{crew, lease, workspace, tokens};
  auto* qkv = workspace.take<float>(tokens * qkv_.shape.outputs());
  auto* attended = workspace.take<float>(tokens * attention_output_.shape.weights.cols);
  auto* hidden = workspace.take<float>(tokens * width);
  auto* gated = workspace.take<float>(tokens * gate_up_.shape.outputs());
  if (auto status = run.linear(qkv_, x.floats(), nullptr, qkv); !status.ok()) return status;
  if (auto status = attention_.run(crew, team->threads(), lease, step, kv, qkv, attended, workspace); !status.ok())
    return status;
  if (auto status =
          run.add_linear(attention_output_, post_attention_norm_offset_, epsilon_, attended, x.floats(), hidden);
      !status.ok())
    return status;
  if (auto status = run.linear(gate_up_, hidden, nullptr, gated); !status.ok()) return status;
  if (auto status = run.add_linear(down_, post_feed_forward_norm_offset_, epsilon_, gated, hidden, out); !status.ok())
    return status;
  return lease.check();
}

}  // namespace coe::ops
