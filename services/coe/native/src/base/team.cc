#include "base/team.h"

#include <algorithm>

#include "base/cpu.h"

namespace coe {
namespace {

constexpr unsigned kFieldBits = 20;
constexpr uint64_t kField = (uint64_t{1} << kFieldBits) - 1;
// How long a helper looks for the next loop before it sleeps: longer than the gap between two nodes of a graph.
constexpr int kIdleSpins = 2000;
// How long the caller looks at pieces under way before it lets others run.
constexpr int kBusySpins = 2000;

uint64_t next_piece(uint64_t state) { return state & kField; }
uint64_t pieces_of(uint64_t state) { return state >> kFieldBits & kField; }
uint64_t loop_number(uint64_t state) { return state >> (2 * kFieldBits); }

}  // namespace

Team::Team(unsigned threads) {
  for (unsigned i = 1; i < threads; ++i) helpers_.emplace_back([this] { help(); });
}

Team::~Team() {
  stop_.store(true);
  wake_.fetch_add(1);
  wake_.notify_all();
  for (auto& helper : helpers_) helper.join();
}

// Takes the next piece of the current loop. Succeeding means that the loop can't end before the piece is done, so its
// body may be read from then on.
bool Team::take(uint64_t& state, size_t& piece) {
  while (next_piece(state) < pieces_of(state)) {
    piece = next_piece(state);
    if (state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel, std::memory_order_acquire))
      return true;
  }
  return false;
}

void Team::run_piece(size_t piece) const {
  const size_t begin = piece * grain_;
  body_(begin, std::min(begin + grain_, n_));
}

void Team::run(size_t n, size_t grain, LoopBody body) {
  grain = std::max({grain, size_t{1}, (n + kField - 1) / kField});
  const uint64_t pieces = (n + grain - 1) / grain;
  body_ = body;
  n_ = n;
  grain_ = grain;
  done_.store(0, std::memory_order_relaxed);
  const uint64_t loop = loop_number(state_.load(std::memory_order_relaxed)) + 1;
  uint64_t state = loop << (2 * kFieldBits) | pieces << kFieldBits;
  state_.store(state);  // sequentially consistent, as is a helper's announcement that it goes to sleep
  if (sleeping_.load() != 0 && sleeping_.exchange(0) != 0) {
    wake_.fetch_add(1);
    wake_.notify_all();
  }
  size_t piece = 0;
  uint32_t own = 0;
  while (take(state, piece)) {
    run_piece(piece);
    ++own;
  }
  const auto others = static_cast<uint32_t>(pieces - own);
  for (int spin = 0; done_.load(std::memory_order_acquire) != others; ++spin) {
    if (spin < kBusySpins) {
      cpu_relax();
    } else {
      std::this_thread::yield();
    }
  }
}

void Team::help() {
  uint64_t state = state_.load(std::memory_order_acquire);
  int idle = 0;
  while (!stop_.load(std::memory_order_relaxed)) {
    size_t piece = 0;
    if (take(state, piece)) {
      run_piece(piece);
      done_.fetch_add(1, std::memory_order_release);
      idle = 0;
    } else if (++idle > kIdleSpins) {
      sleep(state);
      idle = 0;
    } else {
      cpu_relax();
    }
    state = state_.load(std::memory_order_acquire);
  }
}

void Team::sleep(uint64_t seen) {
  const uint32_t wake = wake_.load();
  sleeping_.fetch_add(1);
  if (state_.load() == seen && !stop_.load()) wake_.wait(wake);
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
  std::shared_ptr<Team> former;
  const std::lock_guard lock(team_lock);
  auto& team = team_slot();
  if (team && team->threads() == threads) return;
  former = std::move(team);
  team = std::make_shared<Team>(std::max(1U, threads));
}

}  // namespace coe
