#include "system_faults.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <limits>
#include <utility>

namespace coe::test {
namespace {

constexpr int kEnough = std::numeric_limits<int>::max();
std::atomic<int> threads_left{kEnough};
std::function<void()> before_unlink;  // NOLINT: of one test at a time

template <class F>
F* next(const char* name) {
  return reinterpret_cast<F*>(dlsym(RTLD_NEXT, name));
}

}  // namespace

FewThreads::FewThreads(int left) { threads_left = left; }
FewThreads::~FewThreads() { threads_left = kEnough; }
BeforeUnlink::BeforeUnlink(std::function<void()> f) { before_unlink = std::move(f); }
BeforeUnlink::~BeforeUnlink() { before_unlink = nullptr; }

}  // namespace coe::test

#define COE_IN_PLACE_OF_THE_SYSTEMS extern "C" __attribute__((visibility("default")))

COE_IN_PLACE_OF_THE_SYSTEMS int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                                               void* (*start)(void*), void* argument) noexcept {
  using namespace coe::test;
  if (threads_left != kEnough && threads_left-- <= 0) return EAGAIN;
  static auto* const system = next<decltype(pthread_create)>("pthread_create");
  return system(thread, attributes, start, argument);
}

COE_IN_PLACE_OF_THE_SYSTEMS int shm_unlink(const char* name) noexcept {
  using namespace coe::test;
  if (const auto hook = std::exchange(before_unlink, nullptr)) hook();
  static auto* const system = next<decltype(shm_unlink)>("shm_unlink");
  return system(name);
}
