// The kernels compiled for AVX-512 VL with VNNI.
#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kernels/table.h"

namespace coe {
namespace {

#include "kernels/attention.inl"
#include "kernels/linear_float.inl"
#include "kernels/rows.inl"
#include "kernels/vec.inl"

constexpr bool kVnni = true;
#include "kernels/linear_quant_x86.inl"

constexpr KernelTable kTable{linear_quant, linear_float, read_row, quantise, rms_norm,
                             silu_gate,    gelu_gate,    soft_cap, attention};

}  // namespace

const KernelTable& avx512_kernels() { return kTable; }

}  // namespace coe
