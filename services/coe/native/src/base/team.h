// A team of threads that runs one function together (single program, many members), with cheap barriers and
// dynamic division of work. Decoding one token of a small model is hundreds of steps of a few microseconds, so members
// spin a short while before they sleep.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace coe {

class Member;

// A borrowed callable: two words, no allocation.
class TeamFunction {
 public:
  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, TeamFunction>)
  TeamFunction(F&& f)  // NOLINT: a borrowed view is meant to convert
      : object_(const_cast<void*>(static_cast<const void*>(&f))),
        call_([](void* object, Member& member) { (*static_cast<std::remove_reference_t<F>*>(object))(member); }) {}
  void operator()(Member& member) const { call_(object_, member); }

 private:
  void* object_;
  void (*call_)(void*, Member&);
};

// What the members of one run share.
struct TeamRun {
  std::atomic<uint64_t> ticket{0};
  alignas(64) std::atomic<uint32_t> arrived{0};
  alignas(64) std::atomic<uint32_t> phase{0};
  unsigned count = 1;
};

// One thread's view of a run. Every member must reach the same barriers and loops in the same order.
class Member {
 public:
  Member(TeamRun& run, unsigned index) : run_(run), index_(index) {}

  [[nodiscard]] unsigned index() const { return index_; }
  [[nodiscard]] unsigned count() const { return run_.count; }

  void barrier();

  // Calls f(begin, end) for pieces of [0, n), each piece once over all members. No barrier at the end.
  template <class F>
  void share(size_t n, size_t grain, F&& f) {
    const size_t pieces = grain == 0 ? 0 : (n + grain - 1) / grain;
    if (run_.count == 1) {
      if (n != 0) f(size_t{0}, n);
      return;
    }
    const uint64_t base = next_ticket_;
    for (;;) {
      const uint64_t piece = run_.ticket.fetch_add(1, std::memory_order_relaxed) - base;
      if (piece >= pieces) break;
      const size_t begin = piece * grain;
      f(begin, begin + grain < n ? begin + grain : n);
    }
    // Each member draws exactly one ticket too many, so all know where the next loop's tickets begin.
    next_ticket_ = base + pieces + run_.count;
  }

 private:
  TeamRun& run_;
  unsigned index_;
  uint64_t next_ticket_ = 0;
};

class Team {
 public:
  // `threads` members: the caller of run() and threads - 1 of its own.
  explicit Team(unsigned threads);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  [[nodiscard]] unsigned threads() const { return static_cast<unsigned>(workers_.size()) + 1; }

  // Runs f on all members and returns when all are done. When the team is busy with another caller's run (two experts
  // at a time), f runs on the caller alone. `wanted` limits the members.
  void run(TeamFunction f, unsigned wanted = ~0U);

 private:
  void work(unsigned index);

  std::mutex busy_;
  TeamRun run_;
  const TeamFunction* function_ = nullptr;
  alignas(64) std::atomic<uint32_t> round_{0};
  alignas(64) std::atomic<uint32_t> unfinished_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

// The team of this process. set_team_threads waits for a run in progress.
std::shared_ptr<Team> process_team();
void set_team_threads(unsigned threads);

}  // namespace coe
