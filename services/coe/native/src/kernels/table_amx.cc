// The kernels for AVX-512 and the tile multiplier (AMX).
#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "kernels/table.h"

namespace coe {
namespace {

// clang-format off: each file uses what the ones before it define
#include "kernels/vec.inl"
#include "kernels/expand.inl"
#include "kernels/unrolled.inl"
#include "kernels/unpack_x86.inl"
#include "kernels/wide_avx512.inl"
#include "kernels/split_amx.inl"
#include "kernels/digits_amx.inl"
#include "kernels/digits_pipeline_amx.inl"
// clang-format on

KernelTable with_tiles(KernelTable table) {
  table.byte_bits = 0;  // tiles multiply two digits as fast as one (ADR 12)
  table.split = split;
  table.linear_split = linear_split;
  table.digits = digits;
  table.linear_digits = linear_digits;
  return table;
}

}  // namespace

const KernelTable& amx_kernels() {
  static const KernelTable table = with_tiles(avx512_kernels());
  return table;
}

}  // namespace coe
