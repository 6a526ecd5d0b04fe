// The arena's header in shared memory. Every process that attaches reads these bytes: change kArenaVersion with them.
#pragma once

#include <atomic>
#include <cstdint>

namespace coe {

inline constexpr uint64_t kArenaMagic = 0x4d4248454f430a01;  // "\1\nCOEHBM"
inline constexpr uint32_t kArenaVersion = 2;
inline constexpr uint64_t kHugePage = uint64_t{2} << 20;
inline constexpr unsigned kSlotBits = 16;  // a lease handle is generation << kSlotBits | slot

enum class SlotState : uint32_t { kFree = 0, kLoading = 1, kResident = 2 };

struct alignas(64) SlotRecord {
  // Incremented by every change of the slot's contents, so an old handle never matches again. Parity has no meaning.
  std::atomic<uint64_t> generation;
  std::atomic<uint64_t> offset;  // bytes from the start of the data
  std::atomic<uint64_t> nbytes;
  std::atomic<uint64_t> watermark;  // bytes [0, watermark) of the slot are in place
  std::atomic<uint32_t> state;
  std::atomic<uint32_t> progress;  // futex word: changes with the watermark and the state
  std::atomic<uint64_t> tag;       // the owner's identifier of the bytes, for its successor
};

struct alignas(64) ArenaHeader {
  std::atomic<uint64_t> magic;  // written last by the creator
  uint32_t version;
  uint32_t slots;
  uint64_t capacity;              // bytes of data
  uint64_t data_offset;           // of the data, from the start of the mapping
  uint64_t epoch;                 // of this creation: differs after a restart of the owner
  std::atomic<uint32_t> retired;  // 1 once the owner has closed it: nothing in it may be read
};

static_assert(std::atomic<uint64_t>::is_always_lock_free && std::atomic<uint32_t>::is_always_lock_free);

}  // namespace coe
