// Faults of the system, in place of its own functions: no more threads, another process between two calls.
#pragma once

#include <functional>

namespace coe::test {

// While it lives, so many more threads can be started.
class FewThreads {
 public:
  explicit FewThreads(int left);
  ~FewThreads();
  FewThreads(const FewThreads&) = delete;
  FewThreads& operator=(const FewThreads&) = delete;
};

// While it lives, `f` is called before a shared-memory object is unlinked, once.
class BeforeUnlink {
 public:
  explicit BeforeUnlink(std::function<void()> f);
  ~BeforeUnlink();
  BeforeUnlink(const BeforeUnlink&) = delete;
  BeforeUnlink& operator=(const BeforeUnlink&) = delete;
};

}  // namespace coe::test
