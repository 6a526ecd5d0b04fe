// TieredLinear, TieredLMHead and TieredGreedyHead.
#include <cstring>

#include "base/team.h"
#include "kernels/likeliest.h"
#include "ops/tiered_ops.h"

namespace coe::ops {
Workspace& run_workspace() {
  thread_local Workspace workspace;
  workspace.reset();
  return workspace;
}

Status TieredLinear::compute(const Context& context) const {
  Lease lease;
  Input x;
  Input residual;
  Linear linear;
  float* out = nullptr;
  if (auto status = resolve_lease(context, lease); !status.ok()) return status;
  if (auto status = context.input(1, 2, x); !status.ok()) return status;
  if (auto status = context.input(2, 2, residual); !status.ok()) return status;
  if (auto status = linear_.find(lease, linear); !status.ok()) return status;
  const size_t tokens = x.dim(0);
  if (x.dim(1) != linear.weights.cols) return invalid("x has another width than cols");
  if (residual.data != nullptr && (residual.dim(0) != tokens || residual.dim(1) != linear.outputs()))
    return invalid("the residual has another shape than the output");
  if (auto status = context.output(0, {tokens, linear.outputs()}, out); !status.ok()) return status;
  const LinearInput scratch = allocate_input(linear, tokens, run_workspace());
  const auto team = process_team();
  Crew crew(*team);
  run_linear(crew, linear, x.floats(), tokens, residual.floats(), out, scratch);
  return lease.check();
}

Status HeadAt::init(Attributes& attributes) {
  softcap = attributes.real_or("softcap", 0.0F);
  if (auto status = linear.init(attributes); !status.ok()) return status;
  if (linear.shape.bytes) return invalid("a head has activations of 16 bits");
  return linear.shape.activation == Activation::kNone ? Status() : invalid("a head has no gate");
}

Status HeadAt::choose(const Context& context, Workspace& workspace, const float*& rows, size_t& count) const {
  Input x;
  Input chosen;
  if (auto status = context.input(1, 2, x); !status.ok()) return status;
  if (auto status = context.input(2, 1, chosen); !status.ok()) return status;
  const size_t cols = linear.shape.weights.cols;
  if (x.dim(1) != cols) return invalid("x has another width than cols");
  count = chosen.dim(0);
  auto* to = workspace.take<float>(count * cols);
  for (size_t i = 0; i < count; ++i) {
    const int64_t row = chosen.ints()[i];
    if (row < 0 || static_cast<size_t>(row) >= x.dim(0)) return invalid("the rows of a head leave x");
    std::memcpy(to + i * cols, x.floats() + static_cast<size_t>(row) * cols, cols * sizeof(float));
  }
  rows = to;
  return {};
}

Status TieredLMHead::compute(const Context& context) const {
  Lease lease;
  Linear linear;
  const float* x = nullptr;
  size_t count = 0;
  float* out = nullptr;
  Workspace& workspace = run_workspace();
  if (auto status = resolve_lease(context, lease); !status.ok()) return status;
  if (auto status = head_.choose(context, workspace, x, count); !status.ok()) return status;
  if (auto status = head_.linear.find(lease, linear); !status.ok()) return status;
  if (auto status = context.output(0, {count, linear.weights.rows}, out); !status.ok()) return status;
  if (count == 0) return lease.check();  // all rows of this step go to the other head
  const LinearInput scratch = allocate_input(linear, count, workspace);
  const auto team = process_team();
  Crew crew(*team);
  run_linear(crew, linear, x, count, nullptr, out, scratch);
  if (head_.softcap > 0)
    crew.share(count * linear.weights.rows, 4096,
               [&](size_t begin, size_t end) { kernels().soft_cap(out + begin, end - begin, head_.softcap); });
  return lease.check();
}

Status TieredGreedyHead::compute(const Context& context) const {
  Lease lease;
  Linear linear;
  const float* x = nullptr;
  size_t count = 0;
  int64_t* ids = nullptr;
  float* logits = nullptr;
  Workspace& workspace = run_workspace();
  if (auto status = resolve_lease(context, lease); !status.ok()) return status;
  if (auto status = head_.choose(context, workspace, x, count); !status.ok()) return status;
  if (auto status = head_.linear.find(lease, linear); !status.ok()) return status;
  if (auto status = context.output(0, {count}, ids); !status.ok()) return status;
  if (auto status = context.output(1, {count}, logits); !status.ok()) return status;
  auto* found = workspace.take<Likeliest>(count);
  const auto team = process_team();
  Crew crew(*team);
  find_likeliest(crew, linear, x, count, head_.softcap, workspace, found);
  for (size_t i = 0; i < count; ++i) {
    ids[i] = found[i].id;
    logits[i] = found[i].logit;
  }
  return lease.check();
}

}  // namespace coe::ops
