// Linears with integer activations, tile by tile. A register holds 2 columns (4 if activations are bytes) of 8 rows
// (Narrow, one panel) or 16 rows (Wide, two panels). The same number of activations is broadcast to all rows, so
// nothing is summed across lanes. For few tokens, quants are multiplied as they are unpacked; larger numbers of tokens
// share an unpacked copy in the L1 cache. Included after unpack_x86.inl.

constexpr size_t kTileRegisters = 2;  // of weights, at most
constexpr size_t kFloatSums = 4;
constexpr size_t kChunkBlocks = 16;  // of the copy: 16 KiB of quants a panel and half
constexpr size_t kTokenGroup = 128;  // tokens that go through one copy

// Integer sums of a tile must stay in registers; of more than kFloatSums the floats don't. Fewer sums than kChains are
// made in parts: each product waits for the sum before it.
struct Narrow {
  using Rows = QuantRows;
  using Lanes = Lanes8;
  using Sum = __m256i;
  using Floats = V8;
  static constexpr size_t kPanels = 1;
  static constexpr size_t kTileTokens = 4;
  static constexpr size_t kChains = 1;
  static constexpr size_t kDirectTokens = 16;
  static constexpr size_t kColumns = 2;  // of a register

  static PanelQuants quants(const uint8_t* of_first, size_t) { return {of_first}; }
  static V8 halves(const uint8_t* of_first, size_t) { return load8_half(of_first); }
  template <bool kSigned>
  static V8 bytes(const uint8_t* of_first, size_t) {
    const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(of_first));
    return to_floats(kSigned ? _mm256_cvtepi8_epi32(eight) : _mm256_cvtepu8_epi32(eight));
  }
  static Lanes broadcast(const void* q) { return reinterpret_cast<Lanes>(_mm256_set1_epi32(word_at(q))); }
  // The empty statement keeps the sum in its register: the compiler would copy it, or move later products up and spill.
  template <unsigned kBits>
  [[gnu::always_inline]] static void add_products(Sum& sum, Lanes w, Lanes x) {
#if defined(__AVX512VNNI__)
    sum = _mm256_dpwssd_epi32(sum, reinterpret_cast<__m256i>(w), reinterpret_cast<__m256i>(x));
#else
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(reinterpret_cast<__m256i>(w), reinterpret_cast<__m256i>(x)));
#endif
    __asm__("" : "+x"(sum));
  }
  static Sum add(Sum a, Sum b) { return _mm256_add_epi32(a, b); }
  // A sum of these products as one of 32 bits a row.
  template <unsigned kBits>
  static Sum of_rows(Sum sum) {
    return sum;
  }
  static V8 to_floats(Sum sum) { return reinterpret_cast<V8>(_mm256_cvtepi32_ps(sum)); }
  static V8 splat_all(float x) { return splat(x); }
  static void store(const Matrix& w, size_t panel, V8 y, float* out) { store_panel(w, panel, y, out); }
};

template <class Reg, size_t kRegisters, size_t kTokens>
using Sums = typename Reg::Sum[kRegisters][kTokens];

// y += scale * sum + offset * (sum of the activations), for run `run` of the row's blocks. The empty statement keeps y
// in memory. Inlined whatever it takes: sums that a function were handed would be in memory too.
template <class Reg, bool kOffset, size_t kRunsInBlock, size_t kTokens, bool kInMemory = false>
[[gnu::always_inline]] inline void add_run(typename Reg::Floats* y, size_t y_stride, const typename Reg::Sum* sum,
                                           typename Reg::Floats scale, typename Reg::Floats offset,
                                           const typename Reg::Rows& x, size_t run) {
  const size_t blocks = x.cols / kBlock;
  const float* sums = kRunsInBlock == 2 ? x.sum16 : x.sum32;
  unrolled<kTokens>([&](auto t) COE_INLINE {
    typename Reg::Floats to = y[t * y_stride];
    to += Reg::to_floats(sum[t]) * (Reg::splat_all(x.scale[t * blocks + run / kRunsInBlock]) * scale);
    if constexpr (kOffset) to += offset * Reg::splat_all(sums[t * blocks * kRunsInBlock + run]);
    y[t * y_stride] = to;
    if constexpr (kInMemory) __asm__("" : "+m"(y[t * y_stride]));
  });
}

// The lower bits of panels behind, as many as are multiplied together; `low` are the first one's.
template <size_t kPanels>
inline void fetch_low(const uint8_t* low, size_t b) {
  const size_t bytes = kPanels * traits(Format::kQ80Planes).low_bytes();
  const uint8_t* ahead = low + b * bytes + kPanelAhead;
  for (size_t line = 0; line < bytes; line += 64) _mm_prefetch(ahead + line, _MM_HINT_T0);
}

// A tile of registers and tokens, straight from the packed quants.
template <class Reg, Format kFormat, size_t kRegisters, size_t kTokens>
inline void direct_tile(const Matrix& w, size_t panel, const typename Reg::Rows& x, float* out, size_t out_stride) {
  using Lanes = typename Reg::Lanes;
  using Floats = typename Reg::Floats;
  constexpr FormatTraits t = traits(kFormat);
  constexpr size_t kInRecord = t.width / kBlock;
  constexpr size_t kBlockBytes = t.record_bytes() / kInRecord;
  constexpr int kLoads = 4 / kRuns<kFormat>;  // unpack() calls of a run
  constexpr size_t kTogether = kRegisters * kTokens;
  constexpr size_t kParts = kTogether < Reg::kChains ? Reg::kChains / kTogether : 1;  // of a sum
  const size_t panel_bytes = w.panel_bytes();
  constexpr size_t kPanels = kRegisters * Reg::kPanels;
  const uint8_t* record = w.panel(panel);
  Ahead<kPanels, kBlockBytes> ahead(record, panel_bytes);
  const size_t blocks = w.cols / kBlock;
  LowBlock low[kRegisters];
  for (size_t r = 0; r < kRegisters; ++r) low[r] = low_block<kFormat>(w, panel + r * Reg::kPanels, 0, true);
  Floats y[kRegisters][kTokens] = {};
  for (size_t first = 0; first < blocks; first += kInRecord, record += t.record_bytes()) {
    Head<Reg> heads[kRegisters];
    for (size_t r = 0; r < kRegisters; ++r)
      heads[r] = head_at<Reg, kFormat>(record + r * Reg::kPanels * panel_bytes, panel_bytes);
    for (size_t in = 0; in < kInRecord; ++in) {
      const size_t b = first + in;
      ahead.fetch();
      if constexpr (t.low_bits != 0) fetch_low<kPanels>(low[0].bits, b);
      for (size_t run = 0; run < kRuns<kFormat>; ++run) {
        Sums<Reg, kRegisters, kTokens * kParts> sum = {};
        const auto multiply = [&](auto i) COE_INLINE {
          const int load = static_cast<int>(run) * kLoads + static_cast<int>(i);
          Lanes part[kRegisters][8 / Reg::kColumns];
          for (size_t r = 0; r < kRegisters; ++r)
            unpack_columns<Reg::kColumns, t.bits>(
                block_quants<Reg, kFormat>(record + r * Reg::kPanels * panel_bytes, in, panel_bytes,
                                           {low[r].bits + b * t.low_bytes(), low[r].distance}),
                load, part[r]);
          const auto* q = x.q + b * kBlock + load * 8;
          unrolled<8 / Reg::kColumns>([&](auto i) COE_INLINE {
            unrolled<kTokens>([&](auto token) COE_INLINE {
              const Lanes columns = Reg::broadcast(q + token * x.cols + Reg::kColumns * i);
              unrolled<kRegisters>([&](auto r) COE_INLINE {
                Reg::template add_products<t.bits>(sum[r][token + i % kParts * kTokens], part[r][i], columns);
              });
            });
          });
        };
        // The shifts of bits that lie apart are to be constants.
        if constexpr (t.bits == 4 || (t.bits == 8 && t.low_bits == 0)) {
          for (int i = 0; i < kLoads; ++i) multiply(i);
        } else {
          unrolled<kLoads>(multiply);
        }
        unrolled<kRegisters>([&](auto r) COE_INLINE {
          unrolled<kTokens*(kParts - 1)>(
              [&](auto i) COE_INLINE { sum[r][i % kTokens] = Reg::add(sum[r][i % kTokens], sum[r][i + kTokens]); });
          unrolled<kTokens>([&](auto i) COE_INLINE { sum[r][i] = Reg::template of_rows<t.bits>(sum[r][i]); });
          Floats scale;
          Floats offset = {};
          scales_at<Reg, kFormat>(heads[r], record + r * Reg::kPanels * panel_bytes, panel_bytes,
                                  in * kRuns<kFormat> + run, scale, offset);
          if constexpr (Reg::kColumns == 4 && t.is_signed()) offset = scale * Reg::splat_all(-kSignBit);
          add_run<Reg, kHasOffset<kFormat> || Reg::kColumns == 4, kRuns<kFormat>, kTokens, (kTogether > kFloatSums)>(
              y[r], 1, sum[r], scale, offset, x, b * kRuns<kFormat> + run);
        });
      }
    }
  }
  for (size_t r = 0; r < kRegisters; ++r)
    for (size_t token = 0; token < kTokens; ++token)
      Reg::store(w, panel + r * Reg::kPanels, y[r][token], out + token * out_stride);
}

// Unpacked columns of a tile's registers: every half step of the first is followed by the second's.
template <class Reg>
struct alignas(64) Chunk {
  typename Reg::Lanes half[kChunkBlocks * kHalfSteps][kTileRegisters];
  typename Reg::Floats scale[2 * kChunkBlocks][kTileRegisters];
  typename Reg::Floats offset[2 * kChunkBlocks][kTileRegisters];
};

template <class Reg, Format kFormat>
inline void fill_chunk(const Matrix& w, size_t panel, size_t in_chunk, size_t first, size_t count, Chunk<Reg>& chunk) {
  constexpr FormatTraits t = traits(kFormat);
  constexpr size_t kInRecord = t.width / kBlock;
  const size_t panel_bytes = w.panel_bytes();
  for (size_t b = first; b < first + count; ++b) {
    const uint8_t* record = w.panel(panel) + b / kInRecord * t.record_bytes();
    const size_t in = b % kInRecord;
    const auto quants = block_quants<Reg, kFormat>(record, in, panel_bytes, low_block<kFormat>(w, panel, b, true));
    for (int i = 0; i < 4; ++i) {
      typename Reg::Lanes half[4];
      unpack<t.bits>(quants, i, half);
      for (int h = 0; h < 4; ++h) chunk.half[(b - first) * kHalfSteps + 4 * i + h][in_chunk] = half[h];
    }
    const auto head = head_at<Reg, kFormat>(record, panel_bytes);
    for (size_t run = 0; run < kRuns<kFormat>; ++run) {
      const size_t at = (b - first) * kRuns<kFormat> + run;
      scales_at<Reg, kFormat>(head, record, panel_bytes, in * kRuns<kFormat> + run, chunk.scale[at][in_chunk],
                              chunk.offset[at][in_chunk]);
    }
  }
}

// y[token][register] += the chunk's columns, which start at block `first` of x.
template <class Reg, bool kOffset, size_t kRunsInBlock, size_t kRegisters, size_t kTokens>
inline void chunk_tile(const Chunk<Reg>& chunk, size_t first, size_t count, const QuantRows& x,
                       typename Reg::Floats (*y)[kTileRegisters]) {
  using Lanes = typename Reg::Lanes;
  constexpr int kInRun = kHalfSteps / kRunsInBlock;
  for (size_t run = 0; run < count * kRunsInBlock; ++run) {
    const Lanes(*half)[kTileRegisters] = chunk.half + run * kInRun;
    // The empty statement keeps the tokens' places in registers: the compiler would compute that of each pair apart.
    const int16_t* q[kTokens];
    unrolled<kTokens>([&](auto token) COE_INLINE {
      q[token] = x.q + token * x.cols + first * kBlock + run * 2 * kInRun;
      __asm__("" : "+r"(q[token]));
    });
    Sums<Reg, kRegisters, kTokens> sum = {};
    unrolled<kInRun>([&](auto i) COE_INLINE {
      Lanes w[kRegisters];
      unrolled<kRegisters>([&](auto r) COE_INLINE { w[r] = half[i][r]; });
      unrolled<kTokens>([&](auto token) COE_INLINE {
        const Lanes pair = Reg::broadcast(q[token] + 2 * i);
        unrolled<kRegisters>([&](auto r) COE_INLINE { Reg::template add_products<0>(sum[r][token], w[r], pair); });
      });
    });
    unrolled<kRegisters>([&](auto r) COE_INLINE {
      add_run<Reg, kOffset, kRunsInBlock, kTokens>(&y[0][r], kTileRegisters, sum[r], chunk.scale[run][r],
                                                   chunk.offset[run][r], x, first * kRunsInBlock + run);
    });
  }
}

// Beyond so many tokens an unpacked copy pays. Not of blocks with two scales: their sums end too soon.
template <class Reg, Format kFormat>
constexpr size_t kDirectTokens = kRuns<kFormat> == 1 ? Reg::kDirectTokens : SIZE_MAX;

template <class Reg, Format kFormat, size_t kRegisters, size_t kTokens>
void direct_panels(const Matrix& w, const typename Reg::Rows& x, size_t tokens, size_t panel, float* out,
                   size_t out_stride) {
  for (size_t token = 0; token < tokens; token += kTokens)
    with_tokens<kTokens>(tokens - token, [&](auto count) {
      direct_tile<Reg, kFormat, kRegisters, count.value>(w, panel, x.from(token), out + token * out_stride, out_stride);
    });
}

template <class Reg, Format kFormat, size_t kRegisters>
void chunked_panels(const Matrix& w, const typename Reg::Rows& x, size_t tokens, size_t panel, float* out,
                    size_t out_stride) {
  Chunk<Reg> chunk;
  const size_t blocks = w.cols / kBlock;
  for (size_t group = 0; group < tokens; group += kTokenGroup) {
    const size_t members = tokens - group < kTokenGroup ? tokens - group : kTokenGroup;
    typename Reg::Floats y[kTokenGroup][kTileRegisters] = {};
    for (size_t first = 0; first < blocks; first += kChunkBlocks) {
      const size_t count = blocks - first < kChunkBlocks ? blocks - first : kChunkBlocks;
      for (size_t r = 0; r < kRegisters; ++r)
        fill_chunk<Reg, kFormat>(w, panel + r * Reg::kPanels, r, first, count, chunk);
      for (size_t token = 0; token < members; token += Reg::kTileTokens)
        with_tokens<Reg::kTileTokens>(members - token, [&](auto tile) {
          chunk_tile<Reg, kHasOffset<kFormat>, kRuns<kFormat>, kRegisters, tile.value>(
              chunk, first, count, x.from(group + token), y + token);
        });
    }
    for (size_t token = 0; token < members; ++token)
      for (size_t r = 0; r < kRegisters; ++r)
        Reg::store(w, panel + r * Reg::kPanels, y[token][r], out + (group + token) * out_stride);
  }
}

// Whether tiles are two registers of weights wide, or one. A single token is memory-bound, and memory is fastest when
// read as few streams.
template <class Reg>
bool in_pairs(size_t tokens) {
  return tokens > 1 || (Reg::kPanels == 2 && is_intel());
}

template <class Reg, Format kFormat, size_t kRegisters>
auto* panels_of(size_t tokens) {
  if constexpr (kDirectTokens<Reg, kFormat> != SIZE_MAX)
    if (tokens > kDirectTokens<Reg, kFormat>) return &chunked_panels<Reg, kFormat, kRegisters>;
  return &direct_panels<Reg, kFormat, kRegisters, Reg::kTileTokens>;
}

// As many whole tiles as fit [panel, end), with registers of this width; moves `panel` behind them.
template <class Reg, Format kFormat, bool kPairs = true>
void linear_tiles(const Matrix& w, const typename Reg::Rows& x, size_t tokens, size_t& panel, size_t end, float* out,
                  size_t out_stride) {
  if constexpr (kPairs) {
    auto* pair = panels_of<Reg, kFormat, 2>(tokens);
    if (in_pairs<Reg>(tokens))
      for (; panel + 2 * Reg::kPanels <= end; panel += 2 * Reg::kPanels) pair(w, x, tokens, panel, out, out_stride);
  }
  auto* single = panels_of<Reg, kFormat, 1>(tokens);
  for (; panel + Reg::kPanels <= end; panel += Reg::kPanels) single(w, x, tokens, panel, out, out_stride);
}

// All of panels [begin, end). `In` makes registers of 16-bit ones that suit the activations.
template <template <class> class In, Format kFormat>
void linear_format(const Matrix& w, const typename In<Narrow>::Rows& x, size_t tokens, size_t begin, size_t end,
                   float* out, size_t out_stride) {
  size_t panel = begin;
#if defined(__AVX512VNNI__)
  linear_tiles<In<Wide>, kFormat>(w, x, tokens, panel, end, out, out_stride);
  linear_tiles<In<Narrow>, kFormat, false>(w, x, tokens, panel, end, out, out_stride);  // one panel at most
#else
  linear_tiles<In<Narrow>, kFormat>(w, x, tokens, panel, end, out, out_stride);
#endif
}
