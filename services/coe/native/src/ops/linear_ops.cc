// TieredLinear and TieredLMHead.
#include <cstring>

#include "base/team.h"
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

Status TieredLMHead::init(Attributes& attributes) {
  softcap_ = attributes.real_or("softcap", 0.0F);
  return linear_.init(attributes);
}

Status TieredLMHead::compute(const Context& context) const {
  Lease lease;
  Input x;
  Input rows;
  Linear linear;
  float* out = nullptr;
  if (auto status = resolve_lease(context, lease); !status.ok()) return status;
  if (auto status = context.input(1, 2, x); !status.ok()) return status;
  if (auto status = context.input(2, 1, rows); !status.ok()) return status;
  if (auto status = linear_.find(lease, linear); !status.ok()) return status;
  const size_t count = rows.dim(0);
  const size_t cols = linear.weights.cols;
  if (x.dim(1) != cols) return invalid("x has another width than cols");
  if (auto status = context.output(0, {count, linear.weights.rows}, out); !status.ok()) return status;
  Workspace& workspace = run_workspace();
  auto* chosen = workspace.take<float>(count * cols);
  for (size_t i = 0; i < count; ++i) {
    const int64_t row = rows.ints()[i];
    if (row < 0 || static_cast<size_t>(row) >= x.dim(0)) return invalid("logit_rows leave x");
    std::memcpy(chosen + i * cols, x.floats() + static_cast<size_t>(row) * cols, cols * sizeof(float));
  }
  const LinearInput scratch = allocate_input(linear, count, workspace);
  const auto team = process_team();
  Crew crew(*team);
  run_linear(crew, linear, chosen, count, nullptr, out, scratch);
  if (softcap_ > 0)
    crew.share(count * linear.weights.rows, 4096,
               [&](size_t begin, size_t end) { kernels().soft_cap(out + begin, end - begin, softcap_); });
  return lease.check();
}

}  // namespace coe::ops
