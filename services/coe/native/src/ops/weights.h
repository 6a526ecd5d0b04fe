// Locates a node's weights: offsets come from its attributes, addresses from the lease of a run.
#pragma once

#include <string>

#include "arena/binding.h"
#include "kernels/linear.h"
#include "ops/ort.h"

namespace coe::ops {

inline constexpr int64_t kAbsent = -1;

// Reads `expert_slot` (input 0) and resolves it.
Status resolve_lease(const Context& context, Lease& lease);

// A packed matrix at `offset` of weights.coe.
struct MatrixAt {
  Matrix shape;
  int64_t offset = 0;

  // Reads `<prefix>offset`, `format`, `rows` and `cols`.
  Status init(Attributes& attributes);
  Status find(const Lease& lease, Matrix& out) const;
};

// `count` floats at `offset`, which must be a multiple of 4; null if `offset` is kAbsent.
Status find_floats(const Lease& lease, int64_t offset, size_t count, const float*& out);

// A linear with its fused options. find() resolves its weights for the expert of a lease.
struct LinearAt {
  MatrixAt matrix;
  Linear shape;
  int64_t norm_offset = kAbsent;
  int64_t bias_offset = kAbsent;

  Status init(Attributes& attributes);
  Status find(const Lease& lease, Linear& out) const;
};

Status parse_activation(const std::string& name, Activation& out);

}  // namespace coe::ops
