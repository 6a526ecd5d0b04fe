// CPU feature detection, done once.
#pragma once

namespace coe {

enum class Isa : int { kPortable = 0, kAvx2 = 1, kAvx512 = 2, kAmx = 3 };

// The best instruction set that both this machine and this build support. COE_NATIVE_ISA=portable|avx2|avx512|amx
// lowers it.
Isa best_isa();
bool has_isa(Isa isa);
bool has_sse42();
bool is_intel();

// Spin-wait hint to the processor.
void cpu_relax();

}  // namespace coe
