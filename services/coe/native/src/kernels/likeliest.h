// The likeliest word of each token, for a matrix in planes without reading most of its lower bits. (Greedy decoding
// needs no other logit, and the output matrix of a small model is most of its weights.)
//
// With u the upper five bits of a quant, q is within 3.5 of 8u - 124.5: the upper bits alone give every logit but for
// 3.5 d sum |x| a block. So
//   1. a linear over the upper bits makes an upper bound of every logit, of which the highest of each panel is kept,
//   2. the panel with the highest bound of all is joined with its lower bits, and makes a logit that was really
//   reached,
//   3. panels whose bound is not below that are joined too: nothing else can be likelier.
// Logits of joined panels have the bits of run_linear(), and bounds allow for the rounding of both, so that the answer
// is that of comparing all logits. How many panels are joined depends on the logits only, at worst all.
#pragma once

#include "kernels/linear.h"

namespace coe {

struct Likeliest {
  int64_t id;   // the lowest of equals
  float logit;  // no number when one of the logits that were made is none
};

// For each row of x [tokens, cols], under `softcap` (0: none). A matrix without planes, one with a cap or a bias, and
// exact linears make all logits. To be called by one thread, the driver of the crew.
void find_likeliest(Crew& crew, const Linear& op, const float* x, size_t tokens, float softcap, Workspace& workspace,
                    Likeliest* out);

}  // namespace coe
