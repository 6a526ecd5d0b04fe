#include "base/team.h"

#include <algorithm>

#include "base/cpu.h"

namespace coe {
namespace {

constexpr int kSpins = 4000;  // about 50 us: longer than the gap between two nodes of a graph

// Waits until `word` differs from `old`: spins, then sleeps.
void wait_change(const std::atomic<uint32_t>& word, uint32_t old) {
  for (int i = 0; i < kSpins; ++i) {
    if (word.load(std::memory_order_acquire) != old) return;
    cpu_relax();
  }
  while (word.load(std::memory_order_acquire) == old) word.wait(old, std::memory_order_acquire);
}

}  // namespace

void Member::barrier() {
  if (run_.count == 1) return;
  const uint32_t phase = run_.phase.load(std::memory_order_relaxed);
  if (run_.arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == run_.count) {
    run_.arrived.store(0, std::memory_order_relaxed);
    run_.phase.store(phase + 1, std::memory_order_release);
    run_.phase.notify_all();
  } else {
    wait_change(run_.phase, phase);
  }
}

Team::Team(unsigned threads) {
  for (unsigned i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
}

Team::~Team() {
  stop_.store(true, std::memory_order_relaxed);
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
  for (auto& worker : workers_) worker.join();
}

void Team::run(TeamFunction f, unsigned wanted) {
  std::unique_lock lock(busy_, std::defer_lock);
  const unsigned count = std::min(wanted, threads());
  if (count <= 1 || !lock.try_lock()) {
    TeamRun alone;
    Member self(alone, 0);
    f(self);
    return;
  }
  function_ = &f;
  run_.count = count;
  run_.ticket.store(0, std::memory_order_relaxed);
  unfinished_.store(static_cast<uint32_t>(workers_.size()), std::memory_order_relaxed);
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
  Member self(run_, 0);
  f(self);
  for (uint32_t left = unfinished_.load(std::memory_order_acquire); left != 0;
       left = unfinished_.load(std::memory_order_acquire)) {
    wait_change(unfinished_, left);
  }
}

void Team::work(unsigned index) {
  uint32_t seen = 0;
  for (;;) {
    wait_change(round_, seen);
    ++seen;
    if (stop_.load(std::memory_order_relaxed)) return;
    if (index < run_.count) {
      Member self(run_, index);
      (*function_)(self);
    }
    if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished_.notify_all();
  }
}

namespace {
std::mutex team_lock;
std::shared_ptr<Team>& team_slot() {
  // Never destroyed: at exit the workers may still be asleep in it.
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
  const std::lock_guard lock(team_lock);
  auto& team = team_slot();
  if (!team || team->threads() != threads) team = std::make_shared<Team>(std::max(1U, threads));
}

}  // namespace coe
