#include "arena/arena.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <new>
#include <system_error>
#include <utility>
#include <vector>

#include "arena/futex.h"

namespace coe {
namespace {

constexpr uint64_t kPage = 4096;
#ifndef MADV_COLLAPSE
constexpr int MADV_COLLAPSE = 25;
#endif
constexpr uint64_t kMostBytes = uint64_t{1} << 56;
constexpr int kAttempts = 100;  // at creating an arena while others try, too
constexpr uint32_t kMaxSlots = 1U << kSlotBits;
constexpr auto kLongestPause = std::chrono::seconds(10);  // between two rounds of requests for huge pages

std::string shm_name(const std::string& name) { return name.starts_with('/') ? name : "/" + name; }

uint64_t round_up(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

// Whether the object's file system has this much room: otherwise the reservation would fill it before failing.
bool has_room(int object, uint64_t bytes) {
  struct statvfs facts{};
  if (fstatvfs(object, &facts) != 0 || facts.f_blocks == 0) return true;  // it has no limit
  return bytes <= uint64_t{facts.f_bavail} * facts.f_frsize;
}

bool overlaps(uint64_t a, uint64_t an, uint64_t b, uint64_t bn) { return a < b + bn && b < a + an; }

}  // namespace

Descriptor::~Descriptor() {
  if (fd_ >= 0) ::close(fd_);
}

bool Descriptor::lock() const { return flock(fd_, LOCK_EX | LOCK_NB) == 0; }

bool Descriptor::is_named(const std::string& name) const {
  const Descriptor other(shm_open(shm_name(name).c_str(), O_RDWR, 0));
  struct stat ours{};
  struct stat theirs{};
  return other.fd_ >= 0 && fstat(fd_, &ours) == 0 && fstat(other.fd_, &theirs) == 0 && ours.st_dev == theirs.st_dev &&
         ours.st_ino == theirs.st_ino;
}

Status Arena::map(uint64_t bytes, Arena& arena) {
  // A huge page of the object can only be mapped as one if both have the same alignment.
  void* reserved = mmap(nullptr, bytes + kHugePage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return system_error("mapping the arena", errno);
  const auto start = reinterpret_cast<uintptr_t>(reserved);
  const uintptr_t aligned = round_up(start, kHugePage);
  void* base = mmap(reinterpret_cast<void*>(aligned), bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                    arena.object_.fd(), 0);
  const uintptr_t end = start + bytes + kHugePage;
  if (aligned != start) munmap(reserved, aligned - start);
  const uintptr_t after = base == MAP_FAILED ? aligned : aligned + round_up(bytes, kPage);
  munmap(reinterpret_cast<void*>(after), end - after);
  if (base == MAP_FAILED) return system_error("mapping the arena", errno);
  madvise(base, bytes, MADV_HUGEPAGE);  // advice only: small pages work too
  arena.mapped_ = bytes;
  arena.header_ = static_cast<ArenaHeader*>(base);
  arena.records_ = reinterpret_cast<SlotRecord*>(static_cast<uint8_t*>(base) + sizeof(ArenaHeader));
  return {};
}

// Removes the object of this name if its owner is gone; kBusy if it has one. `old` keeps it locked.
Status Arena::clear(const std::string& name, Descriptor& old) {
  old = Descriptor(shm_open(shm_name(name).c_str(), O_RDWR, 0));
  if (old.fd() < 0) return {};
  if (!old.lock()) return {Code::kBusy, "arena " + name + " has an owner"};
  if (!old.is_named(name)) return {};  // replaced before it was locked
  std::shared_ptr<Arena> stale;
  if (attach(name, stale).ok()) stale->retire();
  return unlink(name);
}

// The owner of an arena holds a lock on the named object for as long as it lives. Of several processes that start at
// the same time, one wins; the others see its lock.
Status Arena::create(const std::string& name, uint64_t capacity, uint32_t slots, std::shared_ptr<Arena>& out) {
  if (capacity == 0 || capacity > kMostBytes || slots == 0 || slots > kMaxSlots)
    return invalid("an arena needs a capacity, of at most 2^56 bytes, and 1 to 65536 slots");
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    Descriptor old;
    if (auto status = clear(name, old); !status.ok()) return status;
    Descriptor made(shm_open(shm_name(name).c_str(), O_RDWR | O_CREAT | O_EXCL, 0600));
    if (made.fd() < 0 && errno != EEXIST) return system_error("creating arena " + name, errno);
    if (made.fd() < 0 || !made.lock() || !made.is_named(name)) continue;  // another process was faster
    return fill(std::move(made), name, capacity, slots, out);
  }
  return {Code::kBusy, "arena " + name + " is being created by others"};
}

Status Arena::fill(Descriptor made, const std::string& name, uint64_t capacity, uint32_t slots,
                   std::shared_ptr<Arena>& out) {
  std::shared_ptr<Arena> arena(new Arena());
  arena->object_ = std::move(made);
  struct Unlinked {  // before the lock is released
    const std::string& name;
    bool wanted = true;
    ~Unlinked() {
      if (wanted) static_cast<void>(unlink(name));
    }
  } unless_filled{name};
  const uint64_t data_offset = round_up(sizeof(ArenaHeader) + slots * sizeof(SlotRecord), kHugePage);
  const uint64_t bytes = data_offset + round_up(capacity, kHugePage);
  // Reserve the memory now: a tier that is too large fails here, not with a bus error during a load.
  const auto reserving = [&](int error) {
    return system_error("reserving " + std::to_string(bytes) + " bytes for arena " + name, error);
  };
  const int object = arena->object_.fd();
  if (!has_room(object, bytes)) return reserving(ENOSPC);
  if (ftruncate(object, static_cast<off_t>(bytes)) != 0) return reserving(errno);
  if (auto status = map(bytes, *arena); !status.ok()) return status;
  auto small = arena->take_huge();
  if (const int error = posix_fallocate(object, 0, static_cast<off_t>(bytes)); error != 0) return reserving(error);
  auto* header = new (arena->header_) ArenaHeader();
  header->version = kArenaVersion;
  header->slots = slots;
  header->capacity = capacity;
  header->data_offset = data_offset;
  header->epoch = static_cast<uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
  for (uint32_t i = 0; i < slots; ++i) new (&arena->records_[i]) SlotRecord();
  header->magic.store(kArenaMagic, std::memory_order_release);
  arena->data_ = reinterpret_cast<uint8_t*>(header) + data_offset;
  arena->owner_ = true;
  arena->collapse(std::move(small));
  unless_filled.wanted = false;
  out = std::move(arena);
  return {};
}

Status Arena::adopt(const std::string& name, uint64_t capacity, uint32_t slots, std::shared_ptr<Arena>& out) {
  std::shared_ptr<Arena> arena;
  if (auto status = attach(name, arena); !status.ok()) return status;
  if (!arena->object_.lock()) return {Code::kBusy, "arena " + name + " has an owner"};
  if (arena->retired() || !arena->object_.is_named(name))
    return {Code::kSystem, "arena " + name + " was closed by its owner"};
  if (arena->capacity() != capacity || arena->slots() != slots)
    return {Code::kSystem, "arena " + name + " has another capacity or number of slots"};
  arena->owner_ = true;
  for (uint32_t i = 0; i < slots; ++i)
    if (arena->slot(i).state.load() == static_cast<uint32_t>(SlotState::kLoading)) arena->finish_load(i, false);
  arena->collapse(arena->huge_pages());
  out = std::move(arena);
  return {};
}

Status Arena::attach(const std::string& name, std::shared_ptr<Arena>& out) {
  std::shared_ptr<Arena> arena(new Arena());
  arena->object_ = Descriptor(shm_open(shm_name(name).c_str(), O_RDWR, 0));
  if (arena->object_.fd() < 0) return system_error("attaching arena " + name, errno);
  struct stat facts{};
  if (fstat(arena->object_.fd(), &facts) != 0) return system_error("attaching arena " + name, errno);
  const auto bytes = static_cast<uint64_t>(facts.st_size);
  if (bytes < sizeof(ArenaHeader)) return {Code::kCorrupt, "arena " + name + " has no header"};
  if (auto status = map(bytes, *arena); !status.ok()) return status;
  const auto* header = arena->header_;
  if (header->magic.load(std::memory_order_acquire) != kArenaMagic || header->version != kArenaVersion)
    return {Code::kCorrupt, "arena " + name + " has a header of another kind or version"};
  if (header->data_offset > bytes || header->capacity > bytes - header->data_offset || header->slots > kMaxSlots ||
      sizeof(ArenaHeader) + header->slots * sizeof(SlotRecord) > header->data_offset)
    return {Code::kCorrupt, "arena " + name + " has a damaged header"};
  arena->data_ = reinterpret_cast<uint8_t*>(arena->header_) + header->data_offset;
  out = std::move(arena);
  return {};
}

Status Arena::unlink(const std::string& name) {
  if (shm_unlink(shm_name(name).c_str()) != 0 && errno != ENOENT) return system_error("unlinking arena " + name, errno);
  return {};
}

std::vector<uint64_t> Arena::huge_pages() const {
  std::vector<uint64_t> starts;
  for (uint64_t at = 0; at + kHugePage <= mapped_; at += kHugePage) starts.push_back(at);
  return starts;
}

// If the system does not use huge pages for shared memory by default, they can still be requested one by one
// (Linux 6.1), but only where memory is already present. When only one small page is, the kernel makes the huge one at
// the speed of clearing it; otherwise it would have to allocate all small pages first, and copy them later. Stops at
// the first refusal and returns the rest.
std::vector<uint64_t> Arena::take_huge() const {
  auto* base = reinterpret_cast<uint8_t*>(header_);
  std::vector<uint64_t> left = huge_pages();
  const auto refused = std::find_if(left.begin(), left.end(), [&](uint64_t at) {
    return posix_fallocate(object_.fd(), static_cast<off_t>(at), kPage) != 0 ||
           madvise(base + at, kHugePage, MADV_COLLAPSE) != 0;
  });
  left.erase(left.begin(), refused);
  return left;
}

// Data that is already in small pages moves at some milliseconds per huge page, in the background; the kernel keeps
// loads and readers out of a page while it moves. A page that is being touched is refused for the moment.
void Arena::collapse(std::vector<uint64_t> left) {
  if (left.empty()) return;
  auto work = [this, left = std::move(left)](const std::stop_token& stop) mutable {
    setpriority(PRIO_PROCESS, static_cast<id_t>(gettid()), 19);
    auto* base = reinterpret_cast<uint8_t*>(header_);
    std::mutex mutex;
    std::condition_variable_any stopped;
    std::unique_lock lock(mutex);
    for (auto pause = std::chrono::milliseconds(10); !left.empty() && pause < kLongestPause; pause *= 2) {
      bool ever = true;
      std::erase_if(left, [&](uint64_t at) {
        if (!ever || stop.stop_requested()) return false;
        if (madvise(base + at, kHugePage, MADV_COLLAPSE) == 0) return true;
        ever = errno != EINVAL;
        return false;
      });
      if (!ever) return;  // not supported on this system
      stopped.wait_for(lock, stop, pause, [] { return false; });
      if (stop.stop_requested()) return;
    }
  };
  try {
    collapsing_ = std::jthread(std::move(work));
  } catch (const std::system_error&) {
    // Out of threads: small pages work, too.
  }
}

Arena::~Arena() {
  if (collapsing_.joinable()) {
    collapsing_.request_stop();
    collapsing_.join();
  }
  if (owner_ && data_ != nullptr) retire();
  if (header_ != nullptr) munmap(header_, mapped_);
}

Status Arena::info(uint32_t index, SlotInfo& out) const {
  if (index >= slots()) return invalid("no slot " + std::to_string(index));
  const SlotRecord& s = slot(index);
  out = {s.state.load(std::memory_order_acquire),
         s.generation.load(std::memory_order_acquire),
         s.offset.load(),
         s.nbytes.load(),
         s.watermark.load(),
         s.tag.load()};
  return {};
}

void Arena::notify(SlotRecord& slot) const {
  slot.progress.fetch_add(1, std::memory_order_release);
  futex_wake_all(slot.progress);
}

Status Arena::begin_load(uint32_t index, uint64_t offset, uint64_t nbytes, uint64_t& generation, uint64_t tag) {
  if (!owner_) return invalid("only the process that created the arena may load into it");
  if (index >= slots()) return invalid("no slot " + std::to_string(index));
  if (offset % 64 != 0) return invalid("a slot starts at a multiple of 64 bytes");
  if (nbytes == 0 || offset > capacity() || nbytes > capacity() - offset)
    return invalid("the slot would leave the arena");
  const std::lock_guard lock(changes_);
  for (uint32_t i = 0; i < slots(); ++i) {
    const SlotRecord& other = slot(i);
    if (other.state.load() == static_cast<uint32_t>(SlotState::kFree)) continue;
    if (i == index) return {Code::kBusy, "slot " + std::to_string(index) + " is not free"};
    if (overlaps(offset, nbytes, other.offset.load(), other.nbytes.load()))
      return {Code::kBusy, "the range overlaps live slot " + std::to_string(i)};
  }
  SlotRecord& s = slot(index);
  s.watermark.store(0);
  s.offset.store(offset);
  s.nbytes.store(nbytes);
  s.tag.store(tag);
  s.state.store(static_cast<uint32_t>(SlotState::kLoading));
  generation = s.generation.fetch_add(1) + 1;
  return {};
}

void Arena::advance(uint32_t index, uint64_t watermark) {
  slot(index).watermark.store(watermark, std::memory_order_release);
  notify(slot(index));
}

void Arena::finish_load(uint32_t index, bool resident) {
  const std::lock_guard lock(changes_);
  SlotRecord& s = slot(index);
  if (!resident) s.generation.fetch_add(1);
  s.state.store(static_cast<uint32_t>(resident ? SlotState::kResident : SlotState::kFree));
  notify(s);
}

Status Arena::free(uint32_t index) {
  if (!owner_) return invalid("only the process that created the arena may free a slot");
  if (index >= slots()) return invalid("no slot " + std::to_string(index));
  const std::lock_guard lock(changes_);
  SlotRecord& s = slot(index);
  const auto state = static_cast<SlotState>(s.state.load());
  if (state == SlotState::kLoading)
    return {Code::kBusy, "slot " + std::to_string(index) + " is loading: cancel that first"};
  if (state == SlotState::kFree) return invalid("slot " + std::to_string(index) + " is already free");
  s.generation.fetch_add(1);
  s.state.store(static_cast<uint32_t>(SlotState::kFree));
  notify(s);
  return {};
}

void Arena::retire() {
  header_->retired.store(1, std::memory_order_release);
  for (uint32_t i = 0; i < slots(); ++i) notify(slot(i));
}

}  // namespace coe
