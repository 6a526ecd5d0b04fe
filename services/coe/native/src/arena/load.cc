#include "arena/load.h"

#include <algorithm>

#include "arena/copy.h"
#include "arena/crc32c.h"

namespace coe {
namespace {
// Without verification the unit is smaller than a chunk, so that the first layers are in place sooner.
constexpr uint64_t kPlainUnit = uint64_t{512} << 10;
// Verified bytes are copied and summed in pieces that stay in the cache between the two.
constexpr uint64_t kTile = uint64_t{48} << 10;
}  // namespace

Status Load::start(std::shared_ptr<Arena> arena, uint32_t slot, uint64_t offset, std::shared_ptr<WeightsFile> file,
                   const LoadOptions& options, std::shared_ptr<Load>& out) {
  if (options.threads == 0) return invalid("a load needs at least one thread");
  std::shared_ptr<Load> load(new Load());
  if (auto status = arena->begin_load(slot, offset, file->nbytes(), load->generation_); !status.ok()) return status;
  load->options_ = options;
  load->options_.verify = options.verify && file->has_checksums();
  load->unit_bytes_ = load->options_.verify ? file->chunk_bytes() : std::min(kPlainUnit, file->chunk_bytes());
  load->units_ = (file->nbytes() + load->unit_bytes_ - 1) / load->unit_bytes_;
  load->complete_.resize(load->units_);
  load->slot_ = slot;
  load->target_ = arena->data() + offset;
  load->arena_ = std::move(arena);
  load->file_ = std::move(file);
  load->started_ = std::chrono::steady_clock::now();
  load->running_ = static_cast<unsigned>(std::min<uint64_t>(options.threads, load->units_));
  const unsigned count = load->running_;
  for (unsigned i = 0; i < count; ++i) load->threads_.emplace_back([raw = load.get()] { raw->work(); });
  out = std::move(load);
  return {};
}

Load::~Load() {
  cancel();
  for (auto& thread : threads_) thread.join();
}

void Load::work() {
  for (;;) {
    const uint64_t unit = next_.fetch_add(1, std::memory_order_relaxed);
    if (unit >= units_ || !throttle(unit * unit_bytes_)) break;
    if (auto status = copy_unit(unit); !status.ok()) {
      fail(std::move(status));
      break;
    }
    complete_unit(unit);
  }
  const std::lock_guard lock(lock_);
  if (--running_ != 0) return;
  if (prefix_ != units_ && result_.ok()) result_ = {Code::kBusy, "cancelled"};
  arena_->finish_load(slot_, prefix_ == units_);
  done_ = true;
  changed_.notify_all();
}

// Waits until the budget of bytes a second allows the next unit; false when the load is to stop.
bool Load::throttle(uint64_t bytes_before) {
  if (options_.bytes_per_second > 0) {
    const std::chrono::duration<double> due(static_cast<double>(bytes_before) / options_.bytes_per_second);
    std::unique_lock lock(lock_);
    changed_.wait_until(lock, started_ + std::chrono::duration_cast<std::chrono::steady_clock::duration>(due),
                        [this] { return stop_.load(); });
  }
  return !stop_.load(std::memory_order_relaxed);
}

Status Load::copy_unit(uint64_t unit) {
  const uint64_t begin = unit * unit_bytes_;
  const uint64_t nbytes = std::min(unit_bytes_, file_->nbytes() - begin);
  const uint8_t* source = file_->data() + begin;
  if (!options_.verify) {
    stream_copy(target_ + begin, source, nbytes);
  } else {
    uint32_t crc = 0;
    for (uint64_t done = 0; done < nbytes; done += kTile) {
      const uint64_t piece = std::min(kTile, nbytes - done);
      crc = crc32c(source + done, piece, crc);
      stream_copy(target_ + begin + done, source + done, piece);
    }
    if (crc != file_->checksum(unit))
      return {Code::kCorrupt, file_->path() + ": chunk " + std::to_string(unit) + " does not match its checksum"};
  }
  copied_.fetch_add(nbytes, std::memory_order_relaxed);
  return {};
}

void Load::complete_unit(uint64_t unit) {
  const std::lock_guard lock(lock_);
  complete_[unit] = true;
  const uint64_t before = prefix_;
  while (prefix_ < units_ && complete_[prefix_]) ++prefix_;
  if (prefix_ != before) arena_->advance(slot_, std::min(prefix_ * unit_bytes_, file_->nbytes()));
}

void Load::fail(Status status) {
  const std::lock_guard lock(lock_);
  if (result_.ok()) result_ = std::move(status);
  stop_.store(true);
  changed_.notify_all();
}

bool Load::done() const {
  const std::lock_guard lock(lock_);
  return done_;
}

Status Load::result() const {
  const std::lock_guard lock(lock_);
  return result_;
}

bool Load::wait(double seconds) {
  std::unique_lock lock(lock_);
  return changed_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return done_; });
}

void Load::cancel() {
  const std::lock_guard lock(lock_);
  stop_.store(true);
  changed_.notify_all();
}

}  // namespace coe
