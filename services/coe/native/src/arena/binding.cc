#include "arena/binding.h"

#include <chrono>
#include <mutex>

#include "arena/futex.h"
#include "base/cpu.h"

namespace coe {
namespace {

std::mutex binding_lock;
std::shared_ptr<Arena> bound;  // NOLINT: process-wide by contract

constexpr int kSpins = 200;
constexpr long kNapNanoseconds = 50'000'000;

Status stale() { return {Code::kStale, "stale lease"}; }

}  // namespace

void bind_arena(std::shared_ptr<Arena> arena) {
  const std::lock_guard lock(binding_lock);
  bound = std::move(arena);
}

Status Lease::resolve(int64_t handle, Lease& out) {
  {
    const std::lock_guard lock(binding_lock);
    out.arena_ = bound;
  }
  if (!out.arena_) return invalid("no arena is bound in this process: call HbmArena.bind()");
  const uint64_t bits = static_cast<uint64_t>(handle) & ~kBatchInvariant;
  out.batch_invariant_ = handle < 0;
  const auto index = static_cast<uint32_t>(bits & ((1U << kSlotBits) - 1));
  if (index >= out.arena_->slots())
    return invalid("the lease names slot " + std::to_string(index) + ", which the arena lacks");
  out.slot_ = &out.arena_->slot(index);
  out.generation_ = bits >> kSlotBits;
  out.seen_ = 0;
  if (auto status = out.check(); !status.ok()) return status;
  out.nbytes_ = out.slot_->nbytes.load(std::memory_order_acquire);
  const uint64_t offset = out.slot_->offset.load(std::memory_order_acquire);
  if (offset > out.arena_->capacity() || out.nbytes_ > out.arena_->capacity() - offset) return stale();
  out.base_ = out.arena_->data() + offset;
  return out.check();  // offset and size belong to this generation
}

Status Lease::check() const {
  std::atomic_thread_fence(std::memory_order_acquire);
  if (slot_->generation.load(std::memory_order_acquire) != generation_ ||
      slot_->state.load(std::memory_order_acquire) == static_cast<uint32_t>(SlotState::kFree) || arena_->retired())
    return stale();
  return {};
}

Status Lease::bytes(uint64_t offset, uint64_t nbytes, const uint8_t*& out) const {
  if (offset > nbytes_ || nbytes > nbytes_ - offset)
    return invalid("a tensor at " + std::to_string(offset) + " of " + std::to_string(nbytes) +
                   " bytes leaves the slot of " + std::to_string(nbytes_));
  out = base_ + offset;
  return offset + nbytes <= seen_ ? Status() : wait_for(offset + nbytes);
}

Status Lease::wait_for(uint64_t end) const {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(kWaitSeconds);
  for (int spin = 0;; ++spin) {
    const uint32_t progress = slot_->progress.load(std::memory_order_acquire);
    seen_ = slot_->watermark.load(std::memory_order_acquire);
    if (auto status = check(); !status.ok()) return status;
    if (seen_ >= end) return {};
    if (spin < kSpins) {
      cpu_relax();
      continue;
    }
    if (std::chrono::steady_clock::now() > deadline)
      return {Code::kTimeout, "the expert's weights did not arrive in time"};
    futex_wait(slot_->progress, progress, kNapNanoseconds);
  }
}

}  // namespace coe
