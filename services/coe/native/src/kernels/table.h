// The kernels, compiled once per instruction set. All other code calls them through this table.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/cpu.h"
#include "kernels/format.h"

namespace coe {

// Of 16-bit activations: 127 * 256 + 127, which two signed bytes hold (DigitBlock).
inline constexpr float kLargestQuant = 32639.0F;
inline constexpr float kLargestByte = 127.0F;

// Activations of some tokens as integers in blocks of 32: x is about scale * q. sum16 and sum32 are scale * (sum of q)
// over 16 and 32 columns, for formats with minima.
template <class Integer>
struct BlockRows {
  Integer* q;
  float* scale;
  float* sum16;
  float* sum32;
  size_t cols;

  [[nodiscard]] BlockRows from(size_t token) const {
    return {q + token * cols, scale + token * (cols / 32), sum16 + token * (cols / 16), sum32 + token * (cols / 32),
            cols};
  }
};

// |q| <= kLargestQuant. In every 4 columns the middle two are swapped: lane_of() gives the lane of a column.
using QuantRows = BlockRows<int16_t>;
constexpr size_t lane_of(size_t column) { return (column & ~size_t{3}) | (column & 1) << 1 | (column >> 1 & 1); }

// |q| <= kLargestByte, columns in order.
using ByteRows = BlockRows<int8_t>;

// 32 columns of 16 tokens, with the same integers as two signed 8-bit digits: q = 256 * high + low.
struct DigitBlock {
  static constexpr size_t kTokens = 16;

  int8_t digits[kTokens][2][kBlock];  // high, then low; columns in order
  float scale[kTokens];
  float sum16[2][kTokens];
  float sum32[kTokens];
};

struct DigitRows {
  static constexpr size_t kTokens = 128;  // per call of linear_digits()
  // Fewer don't repay the making of digits. Joining planes is hidden only by a pipeline.
  static constexpr size_t worth(Format format) { return format == Format::kQ80Planes ? 1 : 5; }

  DigitBlock* blocks;
  size_t cols;

  static constexpr size_t size(size_t tokens, size_t cols) {
    return (tokens + DigitBlock::kTokens - 1) / DigitBlock::kTokens * (cols / kBlock);
  }
  [[nodiscard]] DigitBlock* at(size_t token, size_t block) const {
    return blocks + token / DigitBlock::kTokens * (cols / kBlock) + block;
  }
};

// Activations of some tokens as two bfloat16 terms, x ~ high + low: tiles of 16 tokens and 32 columns, high then low,
// with columns in the order of QuantRows.
struct SplitRows {
  static constexpr size_t kSide = 16;     // tokens of a tile
  static constexpr size_t kScratch = 64;  // values of scratch memory per column for the multiplication

  uint16_t* tiles;
  size_t cols;

  static constexpr size_t size(size_t tokens, size_t cols) { return (tokens + kSide - 1) / kSide * kSide * cols * 2; }
  [[nodiscard]] uint16_t* at(size_t token, size_t block) const {
    const size_t tile = token / kSide * (cols / kBlock) + block;
    return tiles + (2 * tile * kSide + token % kSide) * kBlock;
  }
  // `token`: the first of a tile.
  [[nodiscard]] SplitRows from(size_t token) const { return {at(token, 0), cols}; }
};

// Formats of cached keys and values. kI8: eight bits per value, and after a head's part of a block one scale per token.
enum class KvType : uint8_t { kF32, kF16, kI8 };

constexpr size_t kv_bytes(KvType type) { return type == KvType::kF32 ? 4 : type == KvType::kF16 ? 2 : 1; }
// Elements of one token's keys (or values) in one head.
constexpr size_t kv_row(KvType type, size_t head_dim) { return head_dim + (type == KvType::kI8 ? sizeof(float) : 0); }

// Sums over some positions for each query row: of weights (1 at the row's highest score) and of weighted values.
struct AttentionSums {
  float* out;      // [rows, head_dim], not yet divided by the sum
  float* maximum;  // [rows]
  float* sum;      // [rows]
};

// A tile of query rows and a range of cached positions of one KV head. Positions are summed in chunks that end at
// multiples of kChunk, and chunks are joined in order. A row's bits therefore depend on its own position only, not on
// the other rows of its tile or on how its positions are split between tiles.
struct AttentionTile {
  const float* q;            // [rows, head_dim], scale folded in
  const int64_t* positions;  // [rows]: a row sees positions <= its own
  size_t rows;               // at most kMaxRows
  size_t head_dim;
  const void* kv;  // the layer's blocks
  KvType type;
  const int64_t* blocks;  // block table of the sequence
  size_t block_stride;    // elements from one block to the next
  size_t k_offset,
      v_offset;        // elements from a block's start to this head's keys [D, block_size] and values [block_size, D],
                       // each with scales [block_size] behind it where there are such
  size_t block_size;   // a multiple of 16
  int64_t begin, end;  // positions; begin is a multiple of 16
  int64_t window;      // 0: none
  float softcap;       // 0: none
  bool apart;          // keep the sums of each chunk separate, one after the other, for join_sums()
  AttentionSums to;    // apart: rows * head_dim, kMaxRows and kMaxRows values to those of the next chunk

  static constexpr size_t kMaxRows = 16;
  static constexpr size_t kMaxHeadDim = 1024;
  static constexpr int64_t kChunk = 128;
  [[nodiscard]] static size_t chunks(int64_t begin, int64_t end) {
    return static_cast<size_t>((end - 1) / kChunk - begin / kChunk + 1);
  }
};

struct KernelTable {
  // y[r] for the rows of panels [begin, end) and tokens [0, tokens): out[t * out_stride + row].
  void (*linear_quant)(const Matrix& w, const QuantRows& x, size_t tokens, size_t begin, size_t end, float* out,
                       size_t out_stride);
  // The same for float activations [tokens, cols] and every format: used by exact mode and the float formats.
  void (*linear_float)(const Matrix& w, const float* x, size_t tokens, size_t begin, size_t end, float* out,
                       size_t out_stride);
  // out[cols] = scale * row `row` of the matrix.
  void (*read_row)(const Matrix& m, size_t row, float scale, float* out);
  void (*quantise)(const float* x, const QuantRows& out);  // one row of out.cols values
  // out = x / rms(x) * weight (weight null: ones); out may be x.
  void (*rms_norm)(const float* x, const float* weight, size_t n, float epsilon, float* out);
  void (*silu_gate)(const float* gate, const float* up, size_t n, float* out);
  void (*gelu_gate)(const float* gate, const float* up, size_t n, float* out);  // tanh approximation
  void (*soft_cap)(float* x, size_t n, float cap);                              // cap * tanh(x / cap)
  void (*attention)(const AttentionTile& tile);
  // Adds the sums of the positions that follow those of `to`.
  void (*join_sums)(const AttentionSums& to, const AttentionSums& of_next, size_t rows, size_t head_dim);
  void (*to_halves)(const float* x, size_t n, uint16_t* out);  // float16, rounded to nearest even
  // out[i] = the highest of x[i * width .. (i + 1) * width), no number when one of them is none; width is a multiple of
  // 8.
  void (*highest)(const float* x, size_t count, size_t width, float* out);
  // quantise() and linear_quant() with 8 bits.
  void (*bytes)(const float* x, const ByteRows& out);
  void (*linear_bytes)(const Matrix& w, const ByteRows& x, size_t tokens, size_t begin, size_t end, float* out,
                       size_t out_stride);
  // Used for weights of at most this many bits: wider ones are as fast with 16-bit activations.
  unsigned byte_bits;
  // Where the processor multiplies tiles; null elsewhere. Each makes one row of activations, or multiplies such rows,
  // for every format whose columns are blocks of 32; digits only quantised ones, and at most DigitRows::kTokens.
  void (*digits)(const float* x, const DigitRows& out, size_t token) = nullptr;
  // The bits of linear_quant().
  void (*linear_digits)(const Matrix& w, const DigitRows& x, size_t tokens, size_t begin, size_t end, float* out,
                        size_t out_stride) = nullptr;
  void (*split)(const float* x, const SplitRows& out, size_t token) = nullptr;
  void (*linear_split)(const Matrix& w, const SplitRows& x, size_t tokens, size_t begin, size_t end, float* out,
                       size_t out_stride, uint16_t* scratch) = nullptr;
};

const KernelTable& kernels(Isa isa);
inline const KernelTable& kernels() { return kernels(best_isa()); }

const KernelTable& portable_kernels();
#if defined(__x86_64__)
inline constexpr unsigned kAvx2ByteBits = 6;  // 8-bit weights are no faster than with 16-bit activations
inline constexpr unsigned kAvx512ByteBits = 8;
void linear_bytes_avx2(const Matrix& w, const ByteRows& x, size_t tokens, size_t begin, size_t end, float* out,
                       size_t out_stride);
void linear_bytes_avx512(const Matrix& w, const ByteRows& x, size_t tokens, size_t begin, size_t end, float* out,
                         size_t out_stride);
const KernelTable& avx2_kernels();
const KernelTable& avx512_kernels();
const KernelTable& amx_kernels();
#endif

}  // namespace coe
