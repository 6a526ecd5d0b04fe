// Linear layers, run by a team: optional RMSNorm before, bias, gate activation and residual after.
#pragma once

#include <cstddef>

#include "base/team.h"
#include "base/workspace.h"
#include "kernels/table.h"

namespace coe {

enum class Activation : uint8_t { kNone, kSiluGate, kGeluGate };

// Modes of the processor's tile multiplier: two 8-bit digits, or two bfloat16 terms.
enum class Tiles : uint8_t { kNone, kDigits, kSplit };

struct Linear {
  Matrix weights;               // gates: N gate rows, then N up rows
  const float* norm = nullptr;  // RMSNorm weights [cols], applied to x first
  float epsilon = 0;
  const float* bias = nullptr;  // [rows], not with a gate
  Activation activation = Activation::kNone;
  bool exact = false;  // float activations instead of blocks of integers
  bool bytes = false;  // 8-bit activations instead of 16-bit ones, where that is faster
  // Batch-invariant: a token's bits don't depend on the number of others, so no bfloat16 tiles.
  bool batch_invariant = false;
  size_t out_stride = 0;  // floats between rows of results; 0: outputs()

  [[nodiscard]] size_t stride() const { return out_stride != 0 ? out_stride : outputs(); }
  [[nodiscard]] size_t outputs() const { return activation == Activation::kNone ? weights.rows : weights.rows / 2; }
  [[nodiscard]] bool quantised() const { return !exact && !traits(weights.format).is_float; }
  [[nodiscard]] bool in_bytes() const {
    return bytes && quantised() && traits(weights.format).bits <= kernels().byte_bits;
  }
  // The mode for this many tokens.
  [[nodiscard]] Tiles tiles(size_t tokens) const;
  [[nodiscard]] Status validate() const;
};

// Scratch memory for the activations of one linear, shared by all threads; empty if it uses tiles.
struct LinearInput {
  QuantRows quant{};
  ByteRows bytes{};
  float* floats = nullptr;
};
LinearInput allocate_input(const Linear& op, size_t tokens, Workspace& workspace);
// The same with and without tiles.
LinearInput take_input(const Linear& op, size_t tokens, Workspace& workspace);

// Norms and quantises row `token` of x into `input`. Returns the normed row.
const float* prepare_row(const Linear& op, const float* x, const LinearInput& input, size_t token);

// out[t, n] = op(x)[t, n] (+ residual[t, n]); x [tokens, cols], out and residual [tokens, outputs()] with rows stride()
// apart; out may be residual. To be called by the driver of the crew; `out` is complete when it returns.
void run_linear(Crew& crew, const Linear& op, const float* x, size_t tokens, const float* residual, float* out,
                const LinearInput& shared);

// COE_NATIVE_EXACT=1 makes every linear exact.
bool exact_by_default();

}  // namespace coe
