// Finds the highest logit for each token. For a matrix in planes, it does so without reading most of the lower bits.
// (Greedy decoding needs no other logit, and the output matrix of a small model is most of its weights.)
//
// With u the upper five bits of a quant, q is within 3.5 of 8u - 124.5: the upper bits alone give every logit to within
// 3.5 d sum |x| per block. So
//   1. a linear over the upper bits computes an upper bound of every logit; the highest bound per panel is kept,
//   2. the panel with the highest bound is joined with its lower bits, which yields an actual logit,
//   3. panels whose bound is not below that logit are joined, too: no other panel can have a higher one.
// Logits of joined panels have the same bits as with run_linear(), and bounds allow for the rounding of both, so the
// result is the same as from comparing all logits. How many panels are joined depends only on the logits; at worst all.
#pragma once

#include "kernels/linear.h"

namespace coe {

struct Likeliest {
  int64_t id;   // ties: the lowest
  float logit;  // NaN if one of the computed logits is not a number
};

// For each row of x [tokens, cols], with `softcap` (0: none). All logits are computed for a matrix without planes, with
// a softcap or a bias, and for exact linears. To be called by one thread, the driver of the crew.
void find_likeliest(Crew& crew, const Linear& op, const float* x, size_t tokens, float softcap, Workspace& workspace,
                    Likeliest* out);

}  // namespace coe
