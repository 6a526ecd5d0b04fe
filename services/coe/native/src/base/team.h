// A team of threads for many short parallel loops: decoding one token of a small model takes hundreds of loops of a few
// microseconds each. The caller drives: it publishes a loop, works on pieces itself, and continues when all pieces are
// done. Every member has a share of the loop and takes pieces from its front, so that it reads contiguous memory that
// the hardware prefetches; when its own share is done, it steals from the back of the others'. A helper that is not
// scheduled therefore delays nothing: the caller only waits for pieces in progress.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace coe {

// A non-owning reference to a callable f(begin, end): two words, no allocation.
class LoopBody {
 public:
  LoopBody() = default;
  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, LoopBody>)
  explicit LoopBody(F& f)
      : object_(const_cast<void*>(static_cast<const void*>(&f))),
        call_([](void* object, size_t begin, size_t end) { (*static_cast<F*>(object))(begin, end); }) {}
  void operator()(size_t begin, size_t end) const { call_(object_, begin, end); }

 private:
  void* object_ = nullptr;
  void (*call_)(void*, size_t, size_t) = nullptr;
};

class Team {
 public:
  // The caller of a loop and threads - 1 helpers.
  explicit Team(unsigned threads);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  [[nodiscard]] unsigned threads() const { return static_cast<unsigned>(helpers_.size()) + 1; }

 private:
  friend class Crew;
  // The rest of a member's share: the loop's number, the end, and the next piece.
  struct alignas(64) Part {
    std::atomic<uint64_t> state{0};
    bool take_first(size_t& piece);
    bool take_last(size_t& piece);
  };

  void stop();
  void run(size_t n, size_t grain, LoopBody body);
  void help(size_t member);
  uint32_t work(size_t member);
  void run_piece(size_t piece);
  void sleep(const Part& own, uint64_t seen);

  std::mutex driver_;
  LoopBody body_;
  size_t n_ = 0;
  size_t grain_ = 1;
  uint64_t loop_ = 0;
  std::vector<Part> parts_;                    // the caller's, then the helpers'
  alignas(64) std::atomic<uint32_t> done_{0};  // pieces of this loop that helpers have done
  alignas(64) std::atomic<uint32_t> sleeping_{0};
  std::atomic<uint32_t> wake_{0};
  std::atomic<bool> stop_{false};
  std::atomic_flag failed_;  // whoever sets it writes failure_
  std::exception_ptr failure_;
  std::vector<std::thread> helpers_;
};

// The right to drive a team for a while. If another caller has it (two experts at a time), loops run on the caller's
// thread alone.
class Crew {
 public:
  explicit Crew(Team& team) : team_(team), lock_(team.driver_, std::defer_lock) {
    if (team.threads() > 1) static_cast<void>(lock_.try_lock());
  }
  [[nodiscard]] unsigned count() const { return lock_.owns_lock() ? team_.threads() : 1; }

  // Calls f(begin, end) for pieces of [0, n) and returns when all are done. Rethrows an exception that a piece threw.
  template <class F>
  void share(size_t n, size_t grain, F&& f) {
    if (n == 0) return;
    if (!lock_.owns_lock() || n <= grain) {
      f(size_t{0}, n);
      return;
    }
    team_.run(n, grain, LoopBody(f));
  }

 private:
  Team& team_;
  std::unique_lock<std::mutex> lock_;
};

// The team of this process.
std::shared_ptr<Team> process_team();
void set_team_threads(unsigned threads);

}  // namespace coe
