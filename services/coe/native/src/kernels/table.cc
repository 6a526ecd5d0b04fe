#include "kernels/table.h"

namespace coe {

const KernelTable& kernels(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAmx) return amx_kernels();
  if (isa == Isa::kAvx512) return avx512_kernels();
  if (isa == Isa::kAvx2) return avx2_kernels();
#endif
  (void)isa;
  return portable_kernels();
}

}  // namespace coe
