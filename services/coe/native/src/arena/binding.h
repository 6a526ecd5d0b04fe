// The arena that this process's ops read from, and the resolution of lease handles to pointers.
#pragma once

#include <cstdint>
#include <memory>

#include "arena/arena.h"

namespace coe {

// Flag of a handle: the run must be batch-invariant (a token's bits don't depend on the rest of the batch).
constexpr uint64_t kBatchInvariant = uint64_t{1} << 63;

constexpr int64_t lease_handle(uint32_t slot, uint64_t generation) {
  return static_cast<int64_t>(generation << kSlotBits | slot);
}

void bind_arena(std::shared_ptr<Arena> arena);

// The weights of one expert for the duration of one op. Reads are only valid while `check()` is ok: an op checks again
// after reading, so bytes of another expert never reach a result (a sequence lock).
class Lease {
 public:
  // Resolves the handle in the bound arena: kStale if its generation has ended, kInvalid if no arena is bound.
  static Status resolve(int64_t handle, Lease& out);

  // Bytes [offset, offset + nbytes) of the expert. Waits until a running load has copied them, at most kWaitSeconds.
  Status bytes(uint64_t offset, uint64_t nbytes, const uint8_t*& out) const;
  [[nodiscard]] Status check() const;
  [[nodiscard]] bool batch_invariant() const { return batch_invariant_; }

  static constexpr int kWaitSeconds = 60;

 private:
  Status wait_for(uint64_t end) const;

  std::shared_ptr<Arena> arena_;
  const SlotRecord* slot_ = nullptr;
  uint64_t generation_ = 0;
  bool batch_invariant_ = false;
  const uint8_t* base_ = nullptr;
  uint64_t nbytes_ = 0;
  mutable uint64_t seen_ = 0;  // watermark last seen: most reads need no atomic load
};

}  // namespace coe
