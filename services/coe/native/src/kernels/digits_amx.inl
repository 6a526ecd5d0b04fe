// Linear with quantised weights on the processor's tile multiplier (AMX): 16-bit activations as two 8-bit digits,
// q = 256 * high + low, are multiplied with the quants as bytes. The integer sums are those of linear_quant_x86.inl,
// and later operations have the same order, so results have the same bits. Included after split_amx.inl.
//
// A step of two panels, 4 columns of 16 rows, is a row of a tile of weights just as it lies in the packed formats.

constexpr size_t kDigitSide = DigitBlock::kTokens / 2;  // tokens of a tile: a row for each digit
constexpr size_t kBytesOfBlock = kSteps * 64;           // of 16 rows
constexpr size_t kDigitBlocks = 32;                     // unpacked at a time: 16 KiB of the first-level cache

// Tiles 0 to 3: sums, twice those of both halves of the tokens, so that one pair is stored while the other is made.
// 4 and 5: digits of the halves. 6 and 7: weights.
constexpr TileConfig digit_config(size_t runs, size_t tokens) {
  TileConfig config;
  const size_t columns = kBlock / runs;
  for (size_t i = 0; i < 8; ++i) {
    config.rows[i] = static_cast<uint8_t>(i < 6 ? 2 * tokens : columns / 4);
    config.row_bytes[i] = static_cast<uint16_t>(i == 4 || i == 5 ? columns : 64);
  }
  return config;
}
// Smaller tiles, for fewer tokens, take less time.
template <size_t kRunsInBlock, size_t kTokens>
constexpr TileConfig kDigitConfig = digit_config(kRunsInBlock, kTokens);

// Unpacked blocks of 16 rows, with the scales of their runs.
struct alignas(64) DigitChunk {
  uint8_t quants[kDigitBlocks * kBytesOfBlock];
  V16 scale[2 * kDigitBlocks];
  V16 offset[2 * kDigitBlocks];
};

// Block `in` of a record of 16 rows, whose second panel lies `distance` bytes behind the first.
template <Format kFormat>
[[gnu::always_inline]] inline void unpack_block(const uint8_t* record, size_t in, size_t distance, const LowBlock& low,
                                                uint8_t* bytes, V16* scale, V16* offset) {
  constexpr FormatTraits t = traits(kFormat);
  const auto quants = block_quants<Wide, kFormat>(record, in, distance, low);
  unrolled<4>([&](auto i) COE_INLINE {
    Lanes16 step[2];
    unpack_steps<t.bits>(quants, i, step);
    __builtin_memcpy(bytes + i * sizeof step, step, sizeof step);
  });
  const auto head = head_at<Wide, kFormat>(record, distance);
  for (size_t run = 0; run < kRuns<kFormat>; ++run)
    scales_at<Wide, kFormat>(head, record, distance, in * kRuns<kFormat> + run, scale[run], offset[run]);
}

template <Format kFormat>
[[gnu::noinline]] void fill_bytes(const Matrix& w, size_t panel, bool both, size_t first, size_t count,
                                  DigitChunk& chunk) {
  constexpr FormatTraits t = traits(kFormat);
  constexpr size_t kInRecord = t.width / kBlock;
  const size_t distance = both ? w.panel_bytes() : 0;
  for (size_t b = 0; b < count; ++b) {
    const uint8_t* record = w.panel(panel) + (first + b) / kInRecord * t.record_bytes();
    const size_t at = b * kRuns<kFormat>;
    unpack_block<kFormat>(record, (first + b) % kInRecord, distance, low_block<kFormat>(w, panel, first + b, both),
                          chunk.quants + b * kBytesOfBlock, chunk.scale + at, chunk.offset + at);
  }
}

// What is unpacked after a chunk, fetched while that is multiplied: so many bytes of two panels, for each of its
// blocks.
struct ChunkFetch {
  const uint8_t* first;
  const uint8_t* second;
  size_t of_block;

  [[gnu::always_inline]] void fetch(size_t block) const {
    for (size_t at = block * of_block; at < (block + 1) * of_block; at += 64) {
      _mm_prefetch(first + at, _MM_HINT_T0);
      _mm_prefetch(second + at, _MM_HINT_T0);
    }
  }
};

// Tile numbers must be literals.
#define COE_MULTIPLY_TILE(sums, digits, weights, at) \
  _tile_zero(sums);                                  \
  _tile_loadd(digits, at, kBlock);                   \
  if constexpr (kSigned) {                           \
    _tile_dpbssd(sums, digits, weights);             \
  } else {                                           \
    _tile_dpbsud(sums, digits, weights);             \
  }

template <bool kSigned, size_t kTokens>
struct RunTiles {
  static constexpr bool kBoth = kTokens > kDigitSide;
  static constexpr size_t kHalf = 2 * kDigitSide;  // rows

  // Into the first pair of tiles for sums, or into the second.
  template <bool kSecond>
  [[gnu::always_inline]] static void multiply(const int8_t* digits, const uint8_t* quants) {
    if constexpr (kSecond) {
      _tile_loadd(7, quants, 64);
      COE_MULTIPLY_TILE(2, 4, 7, digits)
      if constexpr (kBoth) {
        COE_MULTIPLY_TILE(3, 5, 7, digits + kHalf * kBlock)
      }
    } else {
      _tile_loadd(6, quants, 64);
      COE_MULTIPLY_TILE(0, 4, 6, digits)
      if constexpr (kBoth) {
        COE_MULTIPLY_TILE(1, 5, 6, digits + kHalf * kBlock)
      }
    }
  }
  template <bool kSecond>
  [[gnu::always_inline]] static void store(I16* sums) {
    if constexpr (kSecond) {
      _tile_stored(2, sums, 64);
      if constexpr (kBoth) _tile_stored(3, sums + kHalf, 64);
    } else {
      _tile_stored(0, sums, 64);
      if constexpr (kBoth) _tile_stored(1, sums + kHalf, 64);
    }
  }
};

#undef COE_MULTIPLY_TILE

template <size_t kRunsInBlock>
inline const int8_t* digits_of(const DigitBlock* x, size_t run) {
  return x[run / kRunsInBlock].digits[0][0] + run % kRunsInBlock * (kBlock / kRunsInBlock);
}

// y[token] += scale * sum + offset * (sum of the activations), as add_run() does it; the integer sums as digits.
template <bool kOffset, size_t kTokens>
[[gnu::always_inline]] inline void add_digits(V16 (&y)[kTokens], const I16* sum, V16 scale, V16 offset,
                                              const float* x_scale, const float* x_sum) {
  unrolled<kTokens>([&](auto t) COE_INLINE {
    const I16 whole = (sum[2 * t] << 8) + sum[2 * t + 1];
    y[t] += Wide::to_floats(reinterpret_cast<__m512i>(whole)) * (splat16(x_scale[t]) * scale);
    if constexpr (kOffset) y[t] += offset * splat16(x_sum[t]);
  });
}

// results[token] += the chunk's blocks, the first of which is `x`. Of three runs under way one is multiplied, the one
// before it stored, the one before that scaled: what was just stored can't be read at once.
template <bool kSigned, bool kOffset, size_t kRunsInBlock, size_t kTokens>
[[gnu::noinline]] void chunk_digits(const DigitChunk& chunk, size_t count, const DigitBlock* x,
                                    const ChunkFetch& behind, V16* results) {
  using Tiles = RunTiles<kSigned, kTokens>;
  constexpr size_t kUnderWay = 4;
  alignas(64) I16 sums[kUnderWay][2 * DigitBlock::kTokens];
  V16 y[kTokens];
  unrolled<kTokens>([&](auto t) COE_INLINE { y[t] = results[t]; });
  const size_t runs = count * kRunsInBlock;
  for (size_t run = 0; run < runs + 2; ++run) {
    const int8_t* digits = digits_of<kRunsInBlock>(x, run);
    const uint8_t* quants = chunk.quants + run * (kBytesOfBlock / kRunsInBlock);
    if (run % 2 == 0) {
      if (run >= 1 && run <= runs) Tiles::template store<true>(sums[(run - 1) % kUnderWay]);
      if (run < runs) Tiles::template multiply<false>(digits, quants);
    } else {
      if (run <= runs) Tiles::template store<false>(sums[(run - 1) % kUnderWay]);
      if (run < runs) Tiles::template multiply<true>(digits, quants);
    }
    if (run < 2) continue;
    const size_t done = run - 2;
    if (done % kRunsInBlock == 0) behind.fetch(done / kRunsInBlock);
    const DigitBlock& block = x[done / kRunsInBlock];
    add_digits<kOffset>(y, sums[done % kUnderWay], chunk.scale[done], chunk.offset[done], block.scale,
                        kRunsInBlock == 2 ? block.sum16[done % 2] : block.sum32);
  }
  unrolled<kTokens>([&](auto t) COE_INLINE { results[t] = y[t]; });
}

inline V8 lower(V16 v) { return __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7); }
inline V8 upper(V16 v) { return __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15); }

[[gnu::always_inline]] inline void store_rows(const Matrix& w, size_t panel, size_t end, V16 y, float* out) {
  if (panel + 1 < end) {
    Wide::store(w, panel, y, out);
  } else {
    store_panel(w, panel, lower(y), out);
  }
}

template <Format kFormat>
void digit_panels(const Matrix& w, const DigitRows& x, size_t tokens, size_t begin, size_t end, float* out,
                  size_t out_stride) {
  DigitChunk chunk;
  constexpr size_t kMost = DigitBlock::kTokens;
  constexpr FormatTraits t = traits(kFormat);
  const size_t blocks = w.cols / kBlock;
  V16 y[DigitRows::kTokens];
  for (size_t panel = begin; panel < end; panel += Wide::kPanels) {
    for (size_t token = 0; token < tokens; ++token) y[token] = splat16(0.0F);
    for (size_t first = 0; first < blocks; first += kDigitBlocks) {
      const size_t count = blocks - first < kDigitBlocks ? blocks - first : kDigitBlocks;
      fill_bytes<kFormat>(w, panel, panel + 1 < end, first, count, chunk);
      __asm__ volatile("" ::: "memory");  // the compiler does not know that tiles read it
      const size_t next = first + count;
      const uint8_t* from =
          next < blocks ? w.panel(panel) + next / (t.width / kBlock) * t.record_bytes() : w.panel(panel + 2);
      ChunkFetch behind{from, from + w.panel_bytes(), t.record_bytes() * kBlock / t.width};
      for (size_t token = 0; token < tokens; token += kMost) {
        with_tokens<kMost>(tokens - token, [&](auto members) {
          chunk_digits<t.is_signed(), kHasOffset<kFormat>, kRuns<kFormat>, members.value>(
              chunk, count, x.at(token, first), behind, y + token);
        });
        behind.of_block = 0;  // once
      }
    }
    for (size_t token = 0; token < tokens; ++token) store_rows(w, panel, end, y[token], out + token * out_stride);
  }
}

// Sums of 16 integers each.
inline __m128i sums16(I16 first, I16 second) {
  const auto halves = [](I16 v) {
    return reinterpret_cast<__m256i>(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                                     __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
  };
  __m256i sums = _mm256_hadd_epi32(halves(first), halves(second));
  sums = _mm256_hadd_epi32(sums, sums);
  return _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
}

// The low digit is the low byte as a signed number; the high digit compensates when it is negative.
inline void store_digits(I16 whole, int8_t* high, int8_t* low) {
  const auto bytes = [](I16 v) { return _mm512_maskz_cvtepi32_epi8(0xffff, reinterpret_cast<__m512i>(v)); };
  _mm_storeu_si128(reinterpret_cast<__m128i*>(high), bytes((whole + 128) >> 8));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(low), bytes(whole));
}

// The integers, scales and sums of quantise_block(), on registers of 512 bits.
void digits(const float* x, const DigitRows& out, size_t token) {
  const size_t member = token % DigitBlock::kTokens;
  for (size_t b = 0; b < out.cols / kBlock; ++b) {
    DigitBlock& block = *out.at(token, b);
    V16 v[2];
    __builtin_memcpy(v, x + b * kBlock, sizeof v);
    V16 most = v[0] > -v[0] ? v[0] : -v[0];
    most = most > v[1] ? most : v[1];
    most = most > -v[1] ? most : -v[1];
    const V16 check = (v[0] - v[0]) + (v[1] - v[1]);
    const Rounding rounding(largest8(max8(lower(most), upper(most))), lower(check) + upper(check));
    if (rounding.is_none()) v[0] = v[1] = splat16(0.0F);
    const V16 inverse = splat16(rounding.inverse);
    const float scale = rounding.step;
    const V16 magic = splat16(12582912.0F);
    I16 whole[2];
    for (size_t half = 0; half < 2; ++half) {
      whole[half] = __builtin_convertvector((v[half] * inverse + magic) - magic, I16);
      store_digits(whole[half], block.digits[member][0] + 16 * half, block.digits[member][1] + 16 * half);
    }
    const __m128i sums = sums16(whole[0], whole[1]);
    block.scale[member] = scale;
    block.sum16[0][member] = scale * static_cast<float>(_mm_cvtsi128_si32(sums));
    block.sum16[1][member] = scale * static_cast<float>(_mm_extract_epi32(sums, 1));
    block.sum32[member] = block.sum16[0][member] + block.sum16[1][member];
  }
}
