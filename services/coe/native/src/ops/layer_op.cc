// TieredLayers.
#include "base/team.h"
#include "ops/tiered_ops.h"

namespace coe::ops {
namespace {

// One run of a layer: its linears in sequence, on the same crew and scratch memory.
struct LayerRun {
  Crew& crew;
  const Lease& lease;
  Workspace& workspace;
  size_t tokens;

  Status linear(const LinearAt& at, const float* x, const float* residual, float* out, size_t stride = 0) const {
    Linear op;
    if (auto status = at.find(lease, op); !status.ok()) return status;
    op.out_stride = stride;
    run_linear(crew, op, x, tokens, residual, out, allocate_input(op, tokens, workspace));
    return {};
  }

  // out = residual + linear(x); the product is normed first if the layer has a norm after the linear.
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

Status LayerAt::init(Attributes& attributes, const std::string& prefix) {
  const auto read = [&](const char* name, LinearAt& linear) {
    attributes.set_prefix(prefix + name);
    return linear.init(attributes);
  };
  attributes.set_prefix(prefix);
  const bool apart = attributes.integer_or("qkv_apart", 0) != 0;
  for (const char* name : apart ? std::vector{"query_", "key_", "value_"} : std::vector{"qkv_"})
    if (auto status = read(name, qkv.emplace_back()); !status.ok()) return status;
  if (auto status = read("attention_output_", attention_output); !status.ok()) return status;
  if (auto status = read("gate_up_", gate_up); !status.ok()) return status;
  if (auto status = read("down_", down); !status.ok()) return status;
  attributes.set_prefix(prefix);
  if (auto status = attention.init(attributes); !status.ok()) return status;
  post_attention_norm_offset = attributes.integer_or("post_attention_norm_offset", kAbsent);
  post_feed_forward_norm_offset = attributes.integer_or("post_feed_forward_norm_offset", kAbsent);
  epsilon = attributes.real_or("epsilon", 1e-6F);
  const AttentionShape& shape = attention.shape;
  size_t projected = 0;
  bool fits = true;
  for (const LinearAt& part : qkv) {
    fits = fits && part.shape.weights.cols == width();
    projected += part.shape.outputs();
  }
  if (!fits || projected != shape.qkv_width() || attention_output.shape.weights.cols != shape.heads * shape.head_dim ||
      attention_output.shape.outputs() != width() || gate_up.shape.weights.cols != width() ||
      down.shape.weights.cols != gate_up.shape.outputs())
    return invalid("the shapes of a layer's linears don't fit each other");
  return {};
}

Status LayerAt::run(const Lease& lease, const Step& step, const KvCache& kv, const float* x, float* out) const {
  const auto team = process_team();
  Crew crew(*team);
  Workspace& workspace = run_workspace();
  const LayerRun run{crew, lease, workspace, step.tokens};
  const size_t projected_width = attention.shape.qkv_width();
  auto* projected = workspace.take<float>(step.tokens * projected_width);
  auto* attended = workspace.take<float>(step.tokens * attention_output.shape.weights.cols);
  auto* hidden = workspace.take<float>(step.tokens * width());
  auto* gated = workspace.take<float>(step.tokens * gate_up.shape.outputs());
  float* part_of_projected = projected;
  for (const LinearAt& part : qkv) {
    if (auto status = run.linear(part, x, nullptr, part_of_projected, projected_width); !status.ok()) return status;
    part_of_projected += part.shape.outputs();
  }
  if (auto status = attention.run(crew, team->threads(), lease, step, kv, projected, attended, workspace); !status.ok())
    return status;
  if (auto status = run.add_linear(attention_output, post_attention_norm_offset, epsilon, attended, x, hidden);
      !status.ok())
    return status;
  if (auto status = run.linear(gate_up, hidden, nullptr, gated); !status.ok()) return status;
  if (auto status = run.add_linear(down, post_feed_forward_norm_offset, epsilon, gated, hidden, out); !status.ok())
    return status;
  return lease.check();
}

Status TieredLayers::init(Attributes& attributes) {
  const int64_t count = attributes.integer("count");
  if (count < 1 || count > kMostLayers) return invalid("count must be 1 to 4096 layers");
  layers_.resize(static_cast<size_t>(count));
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (auto status = layers_[i].init(attributes, std::to_string(i) + "_"); !status.ok()) return status;
    const AttentionShape& first = layers_[0].attention.shape;
    const AttentionShape& shape = layers_[i].attention.shape;
    if (layers_[i].width() != layers_[0].width() || shape.kv_heads != first.kv_heads ||
        shape.head_dim != first.head_dim || shape.block_size != first.block_size)
      return invalid("the layers don't fit each other");
  }
  return {};
}

Status TieredLayers::compute(const Context& context) const {
  Lease lease;
  Input input;
  Step step;
  KvCache kv;
  float* out = nullptr;
  const LayerAt& first = layers_[0];
  if (auto status = resolve_lease(context, lease); !status.ok()) return status;
  if (auto status = context.input(1, 2, input); !status.ok()) return status;
  if (input.dim(1) != first.width()) return invalid("x has another width than the layers");
  const size_t tokens = input.dim(0);
  if (auto status = read_step(context, 2, tokens, first.attention.shape, step, kv); !status.ok()) return status;
  if (auto status = context.output(0, {tokens, first.width()}, out); !status.ok()) return status;
  const float* x = input.floats();
  for (const LayerAt& layer : layers_) {
    if (auto status = layer.run(lease, step, kv, x, out); !status.ok()) return status;
    x = out;  // a layer reads all of its input before it writes its result
  }
  return {};
}

}  // namespace coe::ops
