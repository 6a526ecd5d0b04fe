// Which arena the ops of this process read, and how a lease handle becomes a pointer.
#pragma once

#include <cstdint>
#include <memory>

#include "arena/arena.h"

namespace coe {

// Of a handle: its run must give every token the same bits, whatever else is in it.
constexpr uint64_t kBatchInvariant = uint64_t{1} << 63;

constexpr int64_t lease_handle(uint32_t slot, uint64_t generation) {
  return static_cast<int64_t>(generation << kSlotBits | slot);
}

void bind_arena(std::shared_ptr<Arena> arena);

// Weights of one expert for the time of one op. Reads are only trusted while `check()` is ok: an op checks again after
// it has read, so bytes of another expert never reach a result (a sequence lock).
class Lease {
 public:
  // Resolves the handle in the bound arena: kStale when its generation is over, kInvalid when no arena is bound.
  static Status resolve(int64_t handle, Lease& out);

  // Bytes [offset, offset + nbytes) of the expert, once they are copied. Waits for a running load, at most
  // kWaitSeconds.
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
