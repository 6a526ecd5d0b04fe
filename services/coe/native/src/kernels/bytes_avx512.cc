// 8-bit activations with AVX-512 VL and VNNI: a separate translation unit, because compiling all tiles in one takes
// gigabytes.
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
#include "kernels/ahead_x86.inl"
#include "kernels/tiles_x86.inl"
#include "kernels/linear_bytes_x86.inl"
// clang-format on

}  // namespace

void linear_bytes_avx512(const Matrix& w, const ByteRows& x, size_t tokens, size_t begin, size_t end, float* out,
                         size_t out_stride) {
  linear_bytes<kAvx512ByteBits>(w, x, tokens, begin, end, out, out_stride);
}

}  // namespace coe
