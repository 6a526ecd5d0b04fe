#include "base/cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <cstdlib>
#include <cstring>
#include <string>

#include "base/status.h"

namespace coe {

Status system_error(const std::string& what, int error) { return {Code::kSystem, what + ": " + std::strerror(error)}; }

#if defined(__x86_64__)
namespace {

// Whether tiles and their bfloat16 and byte products are available. Their large register state needs permission from
// the kernel, which is granted once per process.
bool ask_for_tiles() {
  constexpr unsigned kBf16 = 1U << 22;
  constexpr unsigned kTile = 1U << 24;
  constexpr unsigned kInt8 = 1U << 25;
  constexpr unsigned kWanted = kBf16 | kTile | kInt8;
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & kWanted) != kWanted) return false;
  constexpr long kRequestPermission = 0x1023;
  constexpr long kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

bool has_isa(Isa isa) {
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  switch (isa) {
    case Isa::kPortable:
      return true;
    case Isa::kAvx2:
      return avx2;
    case Isa::kAvx512:
      return avx2 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("avx512vnni");
    case Isa::kAmx: {
      static const bool tiles = has_isa(Isa::kAvx512) && ask_for_tiles();
      return tiles;
    }
  }
  return false;
}
bool has_sse42() { return __builtin_cpu_supports("sse4.2"); }
bool is_intel() { return __builtin_cpu_is("intel"); }
void cpu_relax() { __builtin_ia32_pause(); }
#else
bool has_isa(Isa isa) { return isa == Isa::kPortable; }
bool has_sse42() { return false; }
bool is_intel() { return false; }
void cpu_relax() {}
#endif

namespace {
Isa choose_isa() {
  Isa wanted = Isa::kAmx;
  if (const char* name = std::getenv("COE_NATIVE_ISA")) {
    if (std::strcmp(name, "portable") == 0) wanted = Isa::kPortable;
    if (std::strcmp(name, "avx2") == 0) wanted = Isa::kAvx2;
    if (std::strcmp(name, "avx512") == 0) wanted = Isa::kAvx512;
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
