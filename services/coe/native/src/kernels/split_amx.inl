// Linear for prefill on the processor's tile multiplier (AMX), which multiplies bfloat16 and sums in float32. Weights
// and activations are split into two terms each, x = high + low, which keeps 16 bits of both. Of the four products,
// low times low is below the precision of the float32 sums and is left out. Included after wide_avx512.inl.

constexpr size_t kTileSide = SplitRows::kSide;      // tokens of a tile of activations, rows of one of weights
constexpr size_t kTileValues = kTileSide * kBlock;  // of a tile: 32 columns, 1 KiB
constexpr size_t kGroupPanels = 4;                  // weights that are multiplied together: two tiles
constexpr size_t kGroupTiles = kGroupPanels * kPanel / kTileSide;

// Palette 1, eight tiles of 16 rows of 64 bytes. A constant, because GCC 12 would remove stores to it as dead.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
constexpr TileConfig kTileConfig;

typedef uint32_t U16 __attribute__((vector_size(64)));

// Rounded to bfloat16, as floats.
inline U16 rounded(V16 x) { return (reinterpret_cast<U16>(x) + 0x8000U) & 0xffff0000U; }

struct Terms {
  U16 high;
  U16 low;
  explicit Terms(V16 x) : high(rounded(x)), low(rounded(x - reinterpret_cast<V16>(high))) {}
};

// Two columns of 16 rows as a row of a tile: its high and its low term.
inline void store_pair(V16 even, V16 odd, uint16_t* high, uint16_t* low) {
  const Terms first(even);
  const Terms second(odd);
  const U16 upper = first.high >> 16 | second.high;
  const U16 lower = first.low >> 16 | second.low;
  __builtin_memcpy(high, &upper, sizeof upper);
  __builtin_memcpy(low, &lower, sizeof lower);
}

// Block `b` of two panels, of which there may be one only, as two tiles.
template <Format kFormat>
inline void fill_tiles(const Matrix& w, size_t panel, bool both, size_t b, uint16_t* high, uint16_t* low) {
  constexpr FormatTraits t = traits(kFormat);
  constexpr size_t kInRecord = t.width / kBlock;
  constexpr size_t kRow = 2 * kTileSide;
  const size_t distance = both ? w.panel_bytes() : 0;
  if constexpr (t.is_float) {
    Expanded first;
    Expanded second;
    expand_floats(w, t, w.panel(panel), b * kBlock, kBlock, first);
    expand_floats(w, t, w.panel(panel) + distance, b * kBlock, kBlock, second);
    const auto column = [&](size_t c) { return side_by_side(first.w[c], second.w[c]); };
    for (size_t i = 0; i < kTileSide; ++i) {
      const size_t c = i / 2 * 4 + i % 2;  // the lanes of QuantRows
      store_pair(column(c), column(c + 2), high + i * kRow, low + i * kRow);
    }
  } else {
    const uint8_t* record = w.panel(panel) + b / kInRecord * t.record_bytes();
    const size_t in = b % kInRecord;
    const auto quants = block_quants<Wide, kFormat>(record, in, distance, low_block<kFormat>(w, panel, b, both));
    V16 scale[kRuns<kFormat>];
    V16 offset[kRuns<kFormat>] = {};
    const auto head = head_at<Wide, kFormat>(record, distance);
    for (size_t run = 0; run < kRuns<kFormat>; ++run)
      scales_at<Wide, kFormat>(head, record, distance, in * kRuns<kFormat> + run, scale[run], offset[run]);
    for (size_t i = 0; i < 4; ++i) {
      Lanes16 half[4];
      unpack<t.bits>(quants, static_cast<int>(i), half);
      const size_t run = i * kRuns<kFormat> / 4;
      for (size_t h = 0; h < 4; ++h) {
        const auto pair = reinterpret_cast<I16>(half[h]);
        const V16 even = __builtin_convertvector(t.bits == 8 ? pair << 16 >> 16 : pair & 0xffff, V16);
        const V16 odd = __builtin_convertvector(pair >> 16, V16);
        const size_t at = (4 * i + h) * kRow;
        store_pair(even * scale[run] + offset[run], odd * scale[run] + offset[run], high + at, low + at);
      }
    }
  }
}

// The tiles of a group of panels, block by block: the high terms of its rows, then the low ones.
template <Format kFormat>
void fill_group(const Matrix& w, size_t panel, size_t end, uint16_t* tiles) {
  for (size_t i = 0; i < kGroupTiles; ++i) {
    const size_t first = panel + 2 * i;
    if (first >= end) return;  // what is not there is multiplied, but not stored
    uint16_t* at = tiles + i * kTileValues;
    for (size_t b = 0; b < w.cols / kBlock; ++b, at += 2 * kGroupTiles * kTileValues)
      fill_tiles<kFormat>(w, first, first + 1 < end, b, at, at + kGroupTiles * kTileValues);
  }
}

// sums[i][j] = 16 tokens of tile row i times 16 rows of weight tile j, over all columns.
template <size_t kTokenTiles>
inline void multiply_tiles(const uint16_t* x, size_t x_stride, const uint16_t* w, size_t blocks,
                           float (*sums)[kGroupTiles][kTileSide * kTileSide]) {
  constexpr int kRow = 64;  // bytes
  _tile_zero(0);
  _tile_zero(1);
  if constexpr (kTokenTiles == 2) {
    _tile_zero(2);
    _tile_zero(3);
  }
  const uint16_t* second = x + x_stride;
  for (size_t b = 0; b < blocks; ++b, x += 2 * kTileValues, second += 2 * kTileValues, w += 4 * kTileValues) {
    _tile_loadd(4, x + kTileValues, kRow);  // low activations
    _tile_loadd(6, w, kRow);
    _tile_loadd(7, w + kTileValues, kRow);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (kTokenTiles == 2) {
      _tile_loadd(5, second + kTileValues, kRow);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    _tile_loadd(4, x, kRow);  // high activations
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (kTokenTiles == 2) {
      _tile_loadd(5, second, kRow);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    _tile_loadd(6, w + 2 * kTileValues, kRow);  // low weights
    _tile_loadd(7, w + 3 * kTileValues, kRow);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (kTokenTiles == 2) {
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, sums[0][0], kRow);
  _tile_stored(1, sums[0][1], kRow);
  if constexpr (kTokenTiles == 2) {
    _tile_stored(2, sums[1][0], kRow);
    _tile_stored(3, sums[1][1], kRow);
  }
}

// Rows [panel, end) of 16 tokens at most to their places.
inline void store_sums(const Matrix& w, size_t panel, size_t end, const float (*sums)[kTileSide * kTileSide],
                       size_t tokens, float* out, size_t out_stride) {
  for (size_t token = 0; token < tokens; ++token)
    for (size_t p = panel; p < end; ++p)
      store_panel(w, p, load8(sums[(p - panel) / 2] + token * kTileSide + (p - panel) % 2 * kPanel),
                  out + token * out_stride);
}

// 16 columns, in the lanes of QuantRows.
inline void store_term(U16 term, uint16_t* to) {
  const Lanes8 upper = __builtin_convertvector(term >> 16, Lanes8);
  const Lanes8 ordered = __builtin_shufflevector(upper, upper, 0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
  __builtin_memcpy(to, &ordered, sizeof ordered);
}

void split(const float* x, const SplitRows& out, size_t token) {
  for (size_t b = 0; b < out.cols / kBlock; ++b) {
    uint16_t* high = out.at(token, b);
    for (size_t i = 0; i < kBlock; i += 16) {
      V16 v;
      __builtin_memcpy(&v, x + b * kBlock + i, sizeof v);
      const Terms terms(v);
      store_term(terms.high, high + i);
      store_term(terms.low, high + kTileValues + i);
    }
  }
}

template <Format kFormat>
void split_format(const Matrix& w, const SplitRows& x, size_t tokens, size_t begin, size_t end, float* out,
                  size_t out_stride, uint16_t* tiles) {
  static_assert(SplitRows::kScratch == 2 * kGroupPanels * kPanel);
  const size_t blocks = w.cols / kBlock;
  alignas(64) float sums[2][kGroupTiles][kTileSide * kTileSide];
  _tile_loadconfig(&kTileConfig);
  for (size_t panel = begin; panel < end; panel += kGroupPanels) {
    const size_t last = panel + kGroupPanels < end ? panel + kGroupPanels : end;
    fill_group<kFormat>(w, panel, last, tiles);
    for (size_t token = 0; token < tokens; token += 2 * kTileSide) {
      const size_t left = tokens - token;
      const size_t stride = blocks * 2 * kTileValues;
      if (left > kTileSide) {
        multiply_tiles<2>(x.at(token, 0), stride, tiles, blocks, sums);
      } else {
        multiply_tiles<1>(x.at(token, 0), 0, tiles, blocks, sums);
      }
      for (size_t i = 0; i < 2 && i * kTileSide < left; ++i) {
        const size_t members = left - i * kTileSide < kTileSide ? left - i * kTileSide : kTileSide;
        store_sums(w, panel, last, sums[i], members, out + (token + i * kTileSide) * out_stride, out_stride);
      }
    }
  }
  _tile_release();
}

void linear_split(const Matrix& w, const SplitRows& x, size_t tokens, size_t begin, size_t end, float* out,
                  size_t out_stride, uint16_t* scratch) {
  with_format(w.format,
              [&](auto format) { split_format<format.value>(w, x, tokens, begin, end, out, out_stride, scratch); });
}
