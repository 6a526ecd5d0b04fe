#include "kernels/linear.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace coe {
namespace {

// Tokens that are multiplied with a panel of weights while both stay in the second-level cache.
constexpr size_t kTokenTile = 128;

QuantRows quant_rows(size_t cols, size_t tokens, Workspace& workspace) {
  return {workspace.take<int16_t>(tokens * cols), workspace.take<float>(tokens * (cols / 32)),
          workspace.take<float>(tokens * (cols / 16)), workspace.take<float>(tokens * (cols / 32)), cols};
}

// Norm and quantisation of one row into `input`, whose row it is.
void prepare_row(const Linear& op, const float* x, const LinearInput& input, size_t token) {
  const size_t cols = op.weights.cols;
  const float* row = x + token * cols;
  if (op.norm != nullptr) {
    float* normed = input.floats + token * cols;
    kernels().rms_norm(row, op.norm, cols, op.epsilon, normed);
    row = normed;
  }
  if (!op.quantised()) return;
  kernels().quantise(row, input.quant.from(token));
}

struct Activations {
  QuantRows quant;
  const float* floats;
};

void multiply(const Linear& op, const Activations& x, size_t token, size_t count, size_t begin, size_t end, float* out,
              size_t stride) {
  if (!op.quantised()) {
    kernels().linear_float(op.weights, x.floats + token * op.weights.cols, count, begin, end, out, stride);
  } else {
    kernels().linear_quant(op.weights, x.quant.from(token), count, begin, end, out, stride);
  }
}

void plain_panels(const Linear& op, const Activations& x, size_t token, size_t count, size_t begin, size_t end,
                  const float* residual, float* out) {
  const size_t n = op.weights.rows;
  const size_t first = begin * kPanel;
  const size_t last = std::min(end * kPanel, n);
  // The residual may be `out` itself: the product goes through a tile of its own then.
  float* target = out + token * n;
  size_t stride = n;
  Workspace& local = Workspace::local();
  local.reset();
  if (residual == out && residual != nullptr) {
    stride = (end - begin) * kPanel;
    target = local.take<float>(count * stride) - first;
  }
  multiply(op, x, token, count, begin, end, target, stride);
  for (size_t t = 0; t < count; ++t) {
    const float* y = target + t * stride;
    float* to = out + (token + t) * n;
    if (op.bias == nullptr && residual == nullptr) continue;
    for (size_t r = first; r < last; ++r) {
      float sum = y[r];
      if (op.bias != nullptr) sum += op.bias[r];
      if (residual != nullptr) sum += residual[(token + t) * n + r];
      to[r] = sum;
    }
  }
}

void gate_panels(const Linear& op, const Activations& x, size_t token, size_t count, size_t begin, size_t end,
                 float* out) {
  const size_t n = op.outputs();
  const size_t first = begin * kPanel;
  const size_t width = (end - begin) * kPanel;
  Workspace& local = Workspace::local();
  local.reset();
  float* gate = local.take<float>(count * width);
  float* up = local.take<float>(count * width);
  const size_t offset = n / kPanel;
  multiply(op, x, token, count, begin, end, gate - first, width);
  multiply(op, x, token, count, begin + offset, end + offset, up - first - n, width);
  auto* combine = op.activation == Activation::kSiluGate ? kernels().silu_gate : kernels().gelu_gate;
  for (size_t t = 0; t < count; ++t) combine(gate + t * width, up + t * width, width, out + (token + t) * n + first);
}

}  // namespace

Status Linear::validate() const {
  if (auto status = weights.validate(); !status.ok()) return status;
  if (!traits(weights.format).is_float && weights.cols % kBlock != 0)
    return invalid("quantised columns must be blocks of 32");
  if (activation == Activation::kNone) return {};
  if (weights.rows % (2 * kPanel) != 0) return invalid("a gate needs a multiple of 8 outputs");
  if (bias != nullptr) return invalid("a gate has no bias");
  return {};
}

LinearInput allocate_input(const Linear& op, size_t tokens, Workspace& workspace) {
  LinearInput input;
  if (op.norm != nullptr) input.floats = workspace.take<float>(tokens * op.weights.cols);
  if (op.quantised()) input.quant = quant_rows(op.weights.cols, tokens, workspace);
  return input;
}

void run_linear(Crew& crew, const Linear& op, const float* x, size_t tokens, const float* residual, float* out,
                const LinearInput& input) {
  if (op.norm != nullptr || op.quantised())
    crew.share(tokens, 4, [&](size_t begin, size_t end) {
      for (size_t t = begin; t < end; ++t) prepare_row(op, x, input, t);
    });
  const Activations activations{input.quant, op.norm != nullptr ? input.floats : x};
  const size_t panels = (op.outputs() + kPanel - 1) / kPanel;
  const size_t grain = std::clamp<size_t>(panels / (size_t{crew.count()} * 6), 1, 64);
  crew.share(panels, grain, [&](size_t from, size_t to) {
    for (size_t begin = from; begin < to; begin += grain) {
      const size_t end = std::min(begin + grain, to);
      for (size_t token = 0; token < tokens; token += kTokenTile) {
        const size_t count = std::min(kTokenTile, tokens - token);
        if (op.activation == Activation::kNone) {
          plain_panels(op, activations, token, count, begin, end, residual, out);
        } else {
          gate_panels(op, activations, token, count, begin, end, out);
        }
      }
    }
  });
}

namespace {

bool is_one(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && std::strcmp(value, "1") == 0;
}

}  // namespace

bool exact_by_default() { return is_one("COE_NATIVE_EXACT"); }

}  // namespace coe
