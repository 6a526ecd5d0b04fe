#include "arena/bus_error.h"

#include <csetjmp>
#include <csignal>
#include <mutex>

namespace coe {
namespace {

// Where this thread continues after a bus error; null: nowhere.
thread_local sigjmp_buf* landing = nullptr;
struct sigaction former{};  // NOLINT: one handler per process

void on_bus_error(int signal, siginfo_t* info, void* context) {
  if (landing != nullptr) siglongjmp(*landing, 1);
  if ((former.sa_flags & SA_SIGINFO) != 0 && former.sa_sigaction != nullptr) {
    former.sa_sigaction(signal, info, context);
  } else if (former.sa_handler != SIG_DFL && former.sa_handler != SIG_IGN) {
    former.sa_handler(signal);
  } else {
    ::signal(signal, SIG_DFL);  // the instruction runs again and terminates the process
  }
}

}  // namespace

void expect_bus_errors() {
  static std::mutex lock;
  const std::lock_guard guard(lock);
  struct sigaction current{};
  if (sigaction(SIGBUS, nullptr, &current) != 0) return;
  if ((current.sa_flags & SA_SIGINFO) != 0 && current.sa_sigaction == on_bus_error) return;
  former = current;
  struct sigaction ours{};
  ours.sa_sigaction = on_bus_error;
  // The signal is not masked in the handler, which never returns: the next bus error must reach it again.
  ours.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  sigaction(SIGBUS, &ours, nullptr);
}

bool survives_bus_error(void (*read)(void*), void* argument) {
  sigjmp_buf here;
  if (sigsetjmp(here, 0) != 0) {
    landing = nullptr;
    return false;
  }
  landing = &here;
  read(argument);
  landing = nullptr;
  return true;
}

}  // namespace coe
