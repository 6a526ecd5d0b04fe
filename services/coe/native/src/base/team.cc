#include "base/team.h"

#include <algorithm>
#include <utility>

#include "base/cpu.h"

namespace coe {
namespace {

constexpr unsigned kFieldBits = 20;
constexpr uint64_t kField = (uint64_t{1} << kFieldBits) - 1;
// How long a helper spins for the next loop before it sleeps: longer than the gap between two nodes of a graph.
constexpr int kIdleSpins = 2000;
// How long the caller spins for pieces in progress before it yields.
constexpr int kBusySpins = 2000;

uint64_t pack(uint64_t loop, uint64_t next, uint64_t end) {
  return loop << (2 * kFieldBits) | end << kFieldBits | next;
}
uint64_t next_piece(uint64_t state) { return state & kField; }
uint64_t end_of(uint64_t state) { return state >> kFieldBits & kField; }
uint64_t loop_number(uint64_t state) { return state >> (2 * kFieldBits); }

}  // namespace

Team::Team(unsigned threads) : parts_(std::max(1U, threads)) {
  helpers_.reserve(parts_.size() - 1);
  try {
    for (size_t i = 1; i < parts_.size(); ++i) helpers_.emplace_back([this, i] { help(i); });
  } catch (...) {  // out of threads
    stop();
    throw;
  }
}

Team::~Team() { stop(); }

void Team::stop() {
  stop_.store(true);
  wake_.fetch_add(1);
  wake_.notify_all();
  for (auto& helper : helpers_) helper.join();
}

// Once a piece is taken, its loop can't end before the piece is done, so the loop's body may be read from then on.
bool Team::Part::take_first(size_t& piece) {
  uint64_t now = state.load(std::memory_order_acquire);
  while (next_piece(now) < end_of(now)) {
    piece = next_piece(now);
    if (state.compare_exchange_weak(now, now + 1, std::memory_order_acq_rel, std::memory_order_acquire)) return true;
  }
  return false;
}

bool Team::Part::take_last(size_t& piece) {
  uint64_t now = state.load(std::memory_order_acquire);
  while (next_piece(now) < end_of(now)) {
    piece = end_of(now) - 1;
    const uint64_t less = now - (uint64_t{1} << kFieldBits);
    if (state.compare_exchange_weak(now, less, std::memory_order_acq_rel, std::memory_order_acquire)) return true;
  }
  return false;
}

// A piece that throws counts as done: the caller must keep waiting for the others, which still use its data.
void Team::run_piece(size_t piece) {
  const size_t begin = piece * grain_;
  try {
    body_(begin, std::min(begin + grain_, n_));
  } catch (...) {
    if (!failed_.test_and_set()) failure_ = std::current_exception();
  }
}

// Runs pieces until none are left, and returns how many it ran. Helpers count each one in done_.
uint32_t Team::work(size_t member) {
  uint32_t count = 0;
  const auto run = [&](size_t piece) {
    run_piece(piece);
    if (member != 0) done_.fetch_add(1, std::memory_order_release);
    ++count;
  };
  size_t piece = 0;
  while (parts_[member].take_first(piece)) run(piece);
  for (size_t i = 1; i < parts_.size(); ++i)
    while (parts_[(member + i) % parts_.size()].take_last(piece)) run(piece);
  return count;
}

void Team::run(size_t n, size_t grain, LoopBody body) {
  grain = std::max({grain, size_t{1}, (n + kField - 1) / kField});
  const uint64_t pieces = (n + grain - 1) / grain;
  body_ = body;
  n_ = n;
  grain_ = grain;
  done_.store(0, std::memory_order_relaxed);
  ++loop_;
  // Sequentially consistent, like the helpers' announcement in sleep().
  for (size_t i = 0; i < parts_.size(); ++i)
    parts_[i].state.store(pack(loop_, pieces * i / parts_.size(), pieces * (i + 1) / parts_.size()));
  if (sleeping_.load() != 0 && sleeping_.exchange(0) != 0) {
    wake_.fetch_add(1);
    wake_.notify_all();
  }
  const auto others = static_cast<uint32_t>(pieces) - work(0);
  for (int spin = 0; done_.load(std::memory_order_acquire) != others; ++spin) {
    if (spin < kBusySpins) {
      cpu_relax();
    } else {
      std::this_thread::yield();
    }
  }
  if (!failed_.test()) return;
  failed_.clear();
  std::rethrow_exception(std::exchange(failure_, nullptr));
}

// Between loops a helper only polls its own share, which changes with each loop: reading the others' would slow down
// their owners.
void Team::help(size_t member) {
  const Part& own = parts_[member];
  uint64_t seen = 0;
  int idle = 0;
  while (!stop_.load(std::memory_order_relaxed)) {
    const uint64_t loop = loop_number(own.state.load(std::memory_order_acquire));
    if (loop != seen) {
      seen = loop;
      work(member);
      idle = 0;
    } else if (++idle > kIdleSpins) {
      sleep(own, seen);
      idle = 0;
    } else {
      cpu_relax();
    }
  }
}

void Team::sleep(const Part& own, uint64_t seen) {
  const uint32_t wake = wake_.load();
  sleeping_.fetch_add(1);
  if (loop_number(own.state.load()) == seen && !stop_.load()) wake_.wait(wake);
}

namespace {
std::mutex team_lock;
std::shared_ptr<Team>& team_slot() {
  // Never destroyed: at exit the helpers may still be asleep in it.
  static auto* team = new std::shared_ptr<Team>();
  return *team;
}
}  // namespace

std::shared_ptr<Team> process_team() {
  const std::lock_guard lock(team_lock);
  auto& team = team_slot();
  if (!team) team = std::make_shared<Team>(1);
  return team;
}

void set_team_threads(unsigned threads) {
  std::shared_ptr<Team> former;  // ends without the lock
  const std::lock_guard lock(team_lock);
  auto& team = team_slot();
  if (team && team->threads() == threads) return;
  former = std::exchange(team, std::make_shared<Team>(threads));
}

}  // namespace coe
