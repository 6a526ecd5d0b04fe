// TieredEmbedding and TieredRMSNorm.
#include "kernels/table.h"
#include "ops/tiered_ops.h"

namespace coe::ops {

Status TieredEmbedding::init(Attributes& attributes) {
  scale_ = attributes.real_or("scale", 1.0F);
  return matrix_.init(attributes);
}

Status TieredEmbedding::compute(const Context& context) const {
  Lease lease;
  Input ids;
  Matrix matrix;
  float* out = nullptr;
  if (auto status = resolve_lease(context, lease); !status.ok()) return status;
  if (auto status = context.input(1, 1, ids); !status.ok()) return status;
  if (auto status = matrix_.find(lease, matrix); !status.ok()) return status;
  if (auto status = context.output(0, {ids.dim(0), matrix.cols}, out); !status.ok()) return status;
  for (size_t t = 0; t < ids.dim(0); ++t) {
    const int64_t id = ids.ints()[t];
    if (id < 0 || static_cast<size_t>(id) >= matrix.rows)
      return invalid("token id " + std::to_string(id) + " is not in a vocabulary of " + std::to_string(matrix.rows));
    kernels().read_row(matrix, static_cast<size_t>(id), scale_, out + t * matrix.cols);
  }
  return lease.check();
}

void norm_rows(const float* x, const float* weight, size_t tokens, size_t cols, float epsilon, const float* residual,
               float* out) {
  for (size_t t = 0; t < tokens; ++t) {
    float* row = out + t * cols;
    kernels().rms_norm(x + t * cols, weight, cols, epsilon, row);
    if (residual != nullptr)
      for (size_t i = 0; i < cols; ++i) row[i] += residual[t * cols + i];
  }
}

Status TieredRMSNorm::init(Attributes& attributes) {
  offset_ = attributes.integer("offset");
  cols_ = static_cast<size_t>(attributes.integer("cols"));
  epsilon_ = attributes.real("epsilon");
  return {};
}

Status TieredRMSNorm::compute(const Context& context) const {
  Lease lease;
  Input x;
  Input residual;
  const float* weight = nullptr;
  float* out = nullptr;
  if (auto status = resolve_lease(context, lease); !status.ok()) return status;
  if (auto status = context.input(1, 2, x); !status.ok()) return status;
  if (auto status = context.input(2, 2, residual); !status.ok()) return status;
  if (x.dim(1) != cols_) return invalid("x has another width than cols");
  if (residual.data != nullptr && (residual.dim(0) != x.dim(0) || residual.dim(1) != cols_))
    return invalid("the residual has another shape than x");
  if (auto status = find_floats(lease, offset_, cols_, weight); !status.ok()) return status;
  if (auto status = context.output(0, {x.dim(0), cols_}, out); !status.ok()) return status;
  norm_rows(x.floats(), weight, x.dim(0), cols_, epsilon_, residual.floats(), out);
  return lease.check();
}

}  // namespace coe::ops
