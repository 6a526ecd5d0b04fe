#include "base/cpu.h"

#include <cstdlib>
#include <cstring>
#include <string>

#include "base/status.h"

namespace coe {

Status system_error(const std::string& what, int error) { return {Code::kSystem, what + ": " + std::strerror(error)}; }

#if defined(__x86_64__)
bool has_isa(Isa isa) {
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  switch (isa) {
    case Isa::kPortable:
      return true;
    case Isa::kAvx2:
      return avx2;
    case Isa::kAvx512:
      return avx2 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512vnni");
  }
  return false;
}
bool has_sse42() { return __builtin_cpu_supports("sse4.2"); }
void cpu_relax() { __builtin_ia32_pause(); }
#else
bool has_isa(Isa isa) { return isa == Isa::kPortable; }
bool has_sse42() { return false; }
void cpu_relax() {}
#endif

namespace {
Isa choose_isa() {
  Isa wanted = Isa::kAvx512;
  if (const char* name = std::getenv("COE_NATIVE_ISA")) {
    if (std::strcmp(name, "portable") == 0) wanted = Isa::kPortable;
    if (std::strcmp(name, "avx2") == 0) wanted = Isa::kAvx2;
  }
  while (!has_isa(wanted)) wanted = static_cast<Isa>(static_cast<int>(wanted) - 1);
  return wanted;
}
}  // namespace

Isa best_isa() {
  static const Isa chosen = choose_isa();
  return chosen;
}

}  // namespace coe
