// One copy of an expert from the DDR tier to a slot, on its own threads.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "arena/arena.h"
#include "arena/weights_file.h"

namespace coe {

struct LoadOptions {
  bool verify = true;
  unsigned threads = 2;
  double bytes_per_second = 0;  // 0: unthrottled
  uint64_t tag = 0;             // kept in the slot's record
  uint64_t nbytes = 0;          // copy only the first `nbytes`; 0: the whole file
  int32_t prefix_slot = -1;     // a resident slot with the file's first bytes: they are copied from there, unthrottled
};

class Load {
 public:
  // Claims the slot and starts copying in file order; the slot's watermark follows the copied bytes.
  static Status start(std::shared_ptr<Arena> arena, uint32_t slot, uint64_t offset, std::shared_ptr<WeightsFile> file,
                      const LoadOptions& options, std::shared_ptr<Load>& out);
  ~Load();  // cancels and joins
  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;

  [[nodiscard]] uint64_t generation() const { return generation_; }
  // Bytes from the file; those of a prefix don't count.
  [[nodiscard]] uint64_t bytes_copied() const { return copied_.load(std::memory_order_relaxed); }
  [[nodiscard]] Status result() const;  // kOk while running and after success
  bool wait(double seconds);
  void cancel();

 private:
  Load() = default;
  Status find_prefix();
  Status run(unsigned threads);
  void work();
  void leave(unsigned threads);
  [[nodiscard]] Status copy_unit(uint64_t unit);
  bool throttle(uint64_t unit);
  void complete_unit(uint64_t unit);
  void fail(Status status);

  std::shared_ptr<Arena> arena_;
  std::shared_ptr<WeightsFile> file_;
  LoadOptions options_;
  uint32_t slot_ = 0;
  uint8_t* target_ = nullptr;
  uint64_t generation_ = 0;
  uint64_t nbytes_ = 0;
  const SlotRecord* prefix_record_ = nullptr;
  const uint8_t* prefix_data_ = nullptr;
  uint64_t prefix_generation_ = 0;
  uint64_t prefix_units_ = 0;
  uint64_t unit_bytes_ = 0;
  uint64_t units_ = 0;
  std::chrono::steady_clock::time_point started_;

  std::atomic<uint64_t> next_{0};
  std::atomic<uint64_t> copied_{0};
  std::atomic<bool> stop_{false};
  mutable std::mutex lock_;
  std::condition_variable changed_;
  std::vector<bool> complete_;
  uint64_t prefix_ = 0;  // leading units in place, without a gap
  unsigned running_ = 0;
  bool done_ = false;
  Status result_;
  std::vector<std::thread> threads_;
};

}  // namespace coe
