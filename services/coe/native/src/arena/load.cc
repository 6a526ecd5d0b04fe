#include "arena/load.h"

#include <algorithm>
#include <system_error>

#include "arena/bus_error.h"
#include "arena/copy.h"
#include "arena/crc32c.h"

namespace coe {
namespace {
// Without verification, units are smaller than chunks, so that the first layers are in place sooner.
constexpr uint64_t kPlainUnit = uint64_t{512} << 10;
// Verified bytes are copied and checksummed in pieces that stay in the cache in between.
constexpr uint64_t kTile = uint64_t{48} << 10;
}  // namespace

Status Load::start(std::shared_ptr<Arena> arena, uint32_t slot, uint64_t offset, std::shared_ptr<WeightsFile> file,
                   const LoadOptions& options, std::shared_ptr<Load>& out) {
  if (options.threads == 0) return invalid("a load needs at least one thread");
  if (options.nbytes > file->nbytes()) return invalid("the file is shorter than the part asked for");
  std::shared_ptr<Load> load(new Load());
  load->options_ = options;
  load->nbytes_ = options.nbytes == 0 ? file->nbytes() : options.nbytes;
  load->options_.verify = options.verify && file->has_checksums();
  load->unit_bytes_ = load->options_.verify ? file->chunk_bytes() : std::min(kPlainUnit, file->chunk_bytes());
  if (load->options_.verify && load->nbytes_ != file->nbytes() && load->nbytes_ % load->unit_bytes_ != 0)
    return invalid("a part that is verified ends where a chunk does");
  load->units_ = (load->nbytes_ + load->unit_bytes_ - 1) / load->unit_bytes_;
  load->complete_.resize(load->units_);
  const auto threads = static_cast<unsigned>(std::min<uint64_t>(options.threads, load->units_));
  load->threads_.reserve(threads);
  load->slot_ = slot;
  load->arena_ = std::move(arena);
  load->file_ = std::move(file);
  if (auto status = load->find_prefix(); !status.ok()) return status;
  if (auto status = load->arena_->begin_load(slot, offset, load->nbytes_, load->generation_, options.tag); !status.ok())
    return status;
  expect_bus_errors();
  load->target_ = load->arena_->data() + offset;
  load->started_ = std::chrono::steady_clock::now();
  if (auto status = load->run(threads); !status.ok()) return status;
  out = std::move(load);
  return {};
}

// Starts the threads, fewer if the system has no more. Without any, the slot becomes free again.
Status Load::run(unsigned threads) {
  running_ = threads;
  for (unsigned i = 0; i < threads; ++i) {
    try {
      threads_.emplace_back([this] { work(); });
    } catch (const std::system_error& error) {
      leave(threads - i);
      return i == 0 ? system_error("starting a thread", error.code().value()) : Status();
    }
  }
  return {};
}

// Uses whole units of the prefix: if it ends within a unit, that unit comes from the file.
Status Load::find_prefix() {
  if (options_.prefix_slot < 0) return {};
  SlotInfo info{};
  if (auto status = arena_->info(static_cast<uint32_t>(options_.prefix_slot), info); !status.ok()) return status;
  if (info.state != static_cast<uint32_t>(SlotState::kResident) || info.tag != options_.tag)
    return invalid("the prefix is not resident, or of other bytes");
  prefix_record_ = &arena_->slot(static_cast<uint32_t>(options_.prefix_slot));
  prefix_data_ = arena_->data() + info.offset;
  prefix_generation_ = info.generation;
  prefix_units_ = info.nbytes >= nbytes_ ? units_ : info.nbytes / unit_bytes_;
  return {};
}

Load::~Load() {
  cancel();
  for (auto& thread : threads_) thread.join();
}

void Load::work() {
  for (;;) {
    const uint64_t unit = next_.fetch_add(1, std::memory_order_relaxed);
    if (unit >= units_ || !throttle(unit)) break;
    if (auto status = copy_unit(unit); !status.ok()) {
      fail(std::move(status));
      break;
    }
    complete_unit(unit);
  }
  leave(1);
}

// Called when `threads` threads have finished or never started. The last ones complete the load.
void Load::leave(unsigned threads) {
  const std::lock_guard lock(lock_);
  running_ -= threads;
  if (running_ != 0) return;
  if (prefix_ != units_ && result_.ok()) result_ = {Code::kBusy, "cancelled"};
  arena_->finish_load(slot_, prefix_ == units_);
  done_ = true;
  changed_.notify_all();
}

// Waits until the limit of bytes per second allows the next unit; false if the load was told to stop.
bool Load::throttle(uint64_t unit) {
  if (options_.bytes_per_second > 0 && unit >= prefix_units_) {
    const auto bytes_before = static_cast<double>((unit - prefix_units_) * unit_bytes_);
    const std::chrono::duration<double> due(bytes_before / options_.bytes_per_second);
    std::unique_lock lock(lock_);
    changed_.wait_until(lock, started_ + std::chrono::duration_cast<std::chrono::steady_clock::duration>(due),
                        [this] { return stop_.load(); });
  }
  return !stop_.load(std::memory_order_relaxed);
}

Status Load::copy_unit(uint64_t unit) {
  const uint64_t begin = unit * unit_bytes_;
  const uint64_t nbytes = std::min(unit_bytes_, nbytes_ - begin);
  if (unit < prefix_units_) {
    stream_copy(target_ + begin, prefix_data_ + begin, nbytes);
    std::atomic_thread_fence(std::memory_order_acquire);
    if (prefix_record_->generation.load(std::memory_order_acquire) != prefix_generation_)
      return {Code::kStale, "the prefix was freed while it was copied"};
    return {};
  }
  const uint8_t* source = file_->data() + begin;
  uint32_t crc = 0;
  const bool read = survives_bus_error([&] {
    if (!options_.verify) return stream_copy(target_ + begin, source, nbytes);
    for (uint64_t done = 0; done < nbytes; done += kTile) {
      const uint64_t piece = std::min(kTile, nbytes - done);
      crc = crc32c(source + done, piece, crc);
      stream_copy(target_ + begin + done, source + done, piece);
    }
  });
  if (!read) return {Code::kSystem, file_->path() + " could not be read: it was cut, or its disk failed"};
  if (options_.verify && crc != file_->checksum(unit))
    return {Code::kCorrupt, file_->path() + ": chunk " + std::to_string(unit) + " does not match its checksum"};
  copied_.fetch_add(nbytes, std::memory_order_relaxed);
  return {};
}

void Load::complete_unit(uint64_t unit) {
  const std::lock_guard lock(lock_);
  complete_[unit] = true;
  const uint64_t before = prefix_;
  while (prefix_ < units_ && complete_[prefix_]) ++prefix_;
  if (prefix_ != before) arena_->advance(slot_, std::min(prefix_ * unit_bytes_, nbytes_));
}

void Load::fail(Status status) {
  const std::lock_guard lock(lock_);
  if (result_.ok()) result_ = std::move(status);
  stop_.store(true);
  changed_.notify_all();
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
