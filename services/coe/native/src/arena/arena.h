// The HBM tier of a host: one bounded POSIX shared-memory object, created by its owner and attached by readers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "arena/layout.h"
#include "base/status.h"

namespace coe {

struct SlotInfo {
  uint32_t state;
  uint64_t generation, offset, nbytes, watermark, tag;
};

// An open shared-memory object. Closing it releases its lock.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }

  [[nodiscard]] int fd() const { return fd_; }  // negative: none
  [[nodiscard]] bool lock() const;              // false if another process has it locked
  [[nodiscard]] bool is_named(const std::string& name) const;

 private:
  int fd_ = -1;
};

class Arena {
 public:
  // Creates `/name`, replacing one whose owner is gone; kBusy while another process owns it.
  static Status create(const std::string& name, uint64_t capacity, uint32_t slots, std::shared_ptr<Arena>& out);
  // Becomes the owner of an arena whose owner died without closing it: resident slots keep their generations, and the
  // dead owner's unfinished loads are freed. kBusy while it has an owner, kSystem if there is no usable arena of this
  // geometry.
  static Status adopt(const std::string& name, uint64_t capacity, uint32_t slots, std::shared_ptr<Arena>& out);
  static Status attach(const std::string& name, std::shared_ptr<Arena>& out);
  static Status unlink(const std::string& name);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  [[nodiscard]] bool owner() const { return owner_; }
  [[nodiscard]] uint64_t capacity() const { return header_->capacity; }
  [[nodiscard]] uint32_t slots() const { return header_->slots; }
  [[nodiscard]] uint64_t epoch() const { return header_->epoch; }
  [[nodiscard]] bool retired() const { return header_->retired.load(std::memory_order_acquire) != 0; }
  [[nodiscard]] SlotRecord& slot(uint32_t index) const { return records_[index]; }
  [[nodiscard]] uint8_t* data() const { return data_; }

  Status info(uint32_t slot, SlotInfo& out) const;

  // Owner only. FREE -> LOADING with a new generation; kInvalid outside the capacity, kBusy when the slot or the range
  // is live.
  Status begin_load(uint32_t slot, uint64_t offset, uint64_t nbytes, uint64_t& generation, uint64_t tag = 0);
  void advance(uint32_t slot, uint64_t watermark);
  void finish_load(uint32_t slot, bool resident);
  // Owner only. RESIDENT -> FREE; the generation ends.
  Status free(uint32_t slot);
  // Owner only. No reader may trust the arena after this.
  void retire();

 private:
  Arena() = default;
  void notify(SlotRecord& slot) const;
  static Status clear(const std::string& name, Descriptor& old);
  static Status fill(Descriptor made, const std::string& name, uint64_t capacity, uint32_t slots,
                     std::shared_ptr<Arena>& out);
  static Status map(uint64_t bytes, Arena& arena);
  // Moves the data to huge pages, identified by their start: huge_pages() lists all, take_huge() returns those that are
  // still small pages when the arena is created, and collapse() moves these in the background.
  [[nodiscard]] std::vector<uint64_t> huge_pages() const;
  [[nodiscard]] std::vector<uint64_t> take_huge() const;
  void collapse(std::vector<uint64_t> left);

  Descriptor object_;
  bool owner_ = false;
  uint64_t mapped_ = 0;
  ArenaHeader* header_ = nullptr;
  SlotRecord* records_ = nullptr;
  uint8_t* data_ = nullptr;
  std::mutex changes_;
  std::jthread collapsing_;
};

}  // namespace coe
