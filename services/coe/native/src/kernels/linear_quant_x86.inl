// Linear on 16-bit activations with AVX2, or with AVX-512 VNNI's dot product on 256-bit registers.
// A register holds 2 columns of 8 rows; 2 activations are broadcast to all rows, so nothing is summed across lanes.
// Few tokens multiply the quants as they are unpacked; more of them share one unpacked copy in the first-level cache.
// Included after unpack_x86.inl.

#define COE_INLINE __attribute__((always_inline))

constexpr size_t kTileTokens = 4;
constexpr size_t kTilePanels = 2;
constexpr size_t kDirectTokens = 16;  // beyond these an unpacked copy pays
constexpr size_t kChunkBlocks = 16;   // of the copy: 16 KiB of quants
constexpr size_t kTokenGroup = 128;   // tokens that go through one copy
constexpr size_t kAhead = 1024;       // bytes that quants are fetched before they are used: a panel is too short a
                                      // stream for the processor to see in time

template <Format kFormat>
inline constexpr bool kHasOffset = kFormat != Format::kQ80;

// A run of 16 columns has its own scale in some formats.
template <Format kFormat>
inline constexpr size_t kRuns = traits(kFormat).subs == 16 ? 2 : 1;

inline __m256i broadcast_pair(const int16_t* q) {
  int32_t pair;
  __builtin_memcpy(&pair, q, sizeof pair);
  return _mm256_set1_epi32(pair);
}

// The empty statement keeps the sum in its register: the compiler would copy it, or move later products up and spill.
[[gnu::always_inline]] inline __m256i add_products(__m256i sum, __m256i w, __m256i x) {
#if defined(__AVX512VNNI__)
  sum = _mm256_dpwssd_epi32(sum, w, x);
#else
  sum = _mm256_add_epi32(sum, _mm256_madd_epi16(w, x));
#endif
  __asm__("" : "+x"(sum));
  return sum;
}

// f(0) ... f(kCount - 1), written out: registers can't be indexed.
template <size_t kCount, class F>
[[gnu::always_inline]] inline void unrolled(F&& f) {
  [&]<size_t... kIndex>(std::index_sequence<kIndex...>)
      COE_INLINE { (f(std::integral_constant<size_t, kIndex>()), ...); }(std::make_index_sequence<kCount>());
}

inline V8 to_floats(__m256i sum) { return reinterpret_cast<V8>(_mm256_cvtepi32_ps(sum)); }

template <size_t kPanels, size_t kTokens>
using Sums = __m256i[kPanels][kTokens];

// y += scale * sum + offset * (sum of the activations), for run `run` of the row's blocks.
template <bool kOffset, size_t kRunsInBlock, size_t kTokens>
inline void add_run(V8* y, size_t y_stride, const __m256i* sum, V8 scale, V8 offset, const QuantRows& x, size_t run) {
  const size_t blocks = x.cols / kBlock;
  const float* sums = kRunsInBlock == 2 ? x.sum16 : x.sum32;
  for (size_t t = 0; t < kTokens; ++t) {
    V8& to = y[t * y_stride];
    to += to_floats(sum[t]) * splat(x.scale[t * blocks + run / kRunsInBlock]) * scale;
    if constexpr (kOffset) to += offset * splat(sums[t * blocks * kRunsInBlock + run]);
  }
}

// A tile of panels and tokens, straight from the packed quants.
template <Format kFormat, size_t kPanels, size_t kTokens>
inline void direct_tile(const Matrix& w, size_t panel, const QuantRows& x, float* out, size_t out_stride) {
  constexpr FormatTraits t = traits(kFormat);
  constexpr size_t kInRecord = t.width / kBlock;
  constexpr int kLoads = 4 / kRuns<kFormat>;  // unpack() calls of a run
  const size_t panel_bytes = w.panel_bytes();
  const uint8_t* record = w.panel(panel);
  const size_t blocks = w.cols / kBlock;
  V8 y[kPanels][kTokens] = {};
  for (size_t first = 0; first < blocks; first += kInRecord, record += t.record_bytes()) {
    for (size_t line = 0; line < t.record_bytes(); line += 64)
      for (size_t p = 0; p < kPanels; ++p) _mm_prefetch(record + p * panel_bytes + kAhead + line, _MM_HINT_T0);
    for (size_t in = 0; in < kInRecord; ++in) {
      const size_t b = first + in;
      const uint8_t* quants = record + t.head_bytes() + in * t.quant_bytes();
      for (size_t run = 0; run < kRuns<kFormat>; ++run) {
        Sums<kPanels, kTokens> sum = {};
        for (int i = 0; i < kLoads; ++i) {
          const int load = static_cast<int>(run) * kLoads + i;
          __m256i half[kPanels][4];
          for (size_t p = 0; p < kPanels; ++p) unpack<t.bits>(quants + p * panel_bytes, load, half[p]);
          const int16_t* q = x.q + b * kBlock + load * 8;
          unrolled<4>([&](auto h) COE_INLINE {
            unrolled<kTokens>([&](auto token) COE_INLINE {
              const __m256i pair = broadcast_pair(q + token * x.cols + 2 * h);
              unrolled<kPanels>([&](auto p)
                                    COE_INLINE { sum[p][token] = add_products(sum[p][token], half[p][h], pair); });
            });
          });
        }
        for (size_t p = 0; p < kPanels; ++p) {
          V8 scale;
          V8 offset = {};
          scales_at<kFormat>(record + p * panel_bytes, in * kRuns<kFormat> + run, scale, offset);
          add_run<kHasOffset<kFormat>, kRuns<kFormat>, kTokens>(y[p], 1, sum[p], scale, offset, x,
                                                                b * kRuns<kFormat> + run);
        }
      }
    }
  }
  for (size_t p = 0; p < kPanels; ++p)
    for (size_t token = 0; token < kTokens; ++token) store_panel(w, panel + p, y[p][token], out + token * out_stride);
}

// Unpacked columns of up to two panels: every half step of the first panel is followed by the second's.
struct alignas(64) Chunk {
  __m256i half[kChunkBlocks * kHalfSteps][kTilePanels];
  V8 scale[2 * kChunkBlocks][kTilePanels];
  V8 offset[2 * kChunkBlocks][kTilePanels];
};

template <Format kFormat>
inline void fill_chunk(const Matrix& w, size_t panel, size_t in_chunk, size_t first, size_t count, Chunk& chunk) {
  constexpr FormatTraits t = traits(kFormat);
  constexpr size_t kInRecord = t.width / kBlock;
  for (size_t b = first; b < first + count; ++b) {
    const uint8_t* record = w.panel(panel) + b / kInRecord * t.record_bytes();
    const size_t in = b % kInRecord;
    const uint8_t* quants = record + t.head_bytes() + in * t.quant_bytes();
    for (int i = 0; i < 4; ++i) {
      __m256i half[4];
      unpack<t.bits>(quants, i, half);
      for (int h = 0; h < 4; ++h) chunk.half[(b - first) * kHalfSteps + 4 * i + h][in_chunk] = half[h];
    }
    for (size_t run = 0; run < kRuns<kFormat>; ++run) {
      const size_t at = (b - first) * kRuns<kFormat> + run;
      scales_at<kFormat>(record, in * kRuns<kFormat> + run, chunk.scale[at][in_chunk], chunk.offset[at][in_chunk]);
    }
  }
}

// y[token][panel] += the chunk's columns, which start at block `first` of x.
template <bool kOffset, size_t kRunsInBlock, size_t kPanels, size_t kTokens>
inline void chunk_tile(const Chunk& chunk, size_t first, size_t count, const QuantRows& x, V8 (*y)[kTilePanels]) {
  constexpr int kInRun = kHalfSteps / kRunsInBlock;
  for (size_t run = 0; run < count * kRunsInBlock; ++run) {
    const __m256i(*half)[kTilePanels] = chunk.half + run * kInRun;
    const int16_t* q = x.q + first * kBlock + run * 2 * kInRun;
    Sums<kPanels, kTokens> sum = {};
    for (int h = 0; h < kInRun; h += 4, half += 4, q += 8)
      unrolled<4>([&](auto i) COE_INLINE {
        const __m256i w[2] = {half[i][0], half[i][1]};
        unrolled<kTokens>([&](auto token) COE_INLINE {
          const __m256i pair = broadcast_pair(q + token * x.cols + 2 * i);
          unrolled<kPanels>([&](auto p) COE_INLINE { sum[p][token] = add_products(sum[p][token], w[p], pair); });
        });
      });
    for (size_t p = 0; p < kPanels; ++p)
      add_run<kOffset, kRunsInBlock, kTokens>(&y[0][p], kTilePanels, sum[p], chunk.scale[run][p], chunk.offset[run][p],
                                              x, first * kRunsInBlock + run);
  }
}

// Calls f with the numbers as constants.
template <class F>
inline void with_tokens(size_t tokens, F&& f) {
  switch (tokens) {
    case 1:
      return f(std::integral_constant<size_t, 1>());
    case 2:
      return f(std::integral_constant<size_t, 2>());
    case 3:
      return f(std::integral_constant<size_t, 3>());
    default:
      return f(std::integral_constant<size_t, 4>());
  }
}

template <Format kFormat, size_t kPanels>
void direct_panels(const Matrix& w, const QuantRows& x, size_t tokens, size_t panel, float* out, size_t out_stride) {
  for (size_t token = 0; token < tokens; token += kTileTokens)
    with_tokens(tokens - token, [&](auto count) {
      direct_tile<kFormat, kPanels, count.value>(w, panel, x.from(token), out + token * out_stride, out_stride);
    });
}

template <Format kFormat, size_t kPanels>
void chunked_panels(const Matrix& w, const QuantRows& x, size_t tokens, size_t panel, float* out, size_t out_stride) {
  thread_local Chunk chunk;
  const size_t blocks = w.cols / kBlock;
  for (size_t group = 0; group < tokens; group += kTokenGroup) {
    const size_t members = tokens - group < kTokenGroup ? tokens - group : kTokenGroup;
    V8 y[kTokenGroup][kTilePanels] = {};
    for (size_t first = 0; first < blocks; first += kChunkBlocks) {
      const size_t count = blocks - first < kChunkBlocks ? blocks - first : kChunkBlocks;
      for (size_t p = 0; p < kPanels; ++p) fill_chunk<kFormat>(w, panel + p, p, first, count, chunk);
      for (size_t token = 0; token < members; token += kTileTokens)
        with_tokens(members - token, [&](auto tile) {
          chunk_tile<kHasOffset<kFormat>, kRuns<kFormat>, kPanels, tile.value>(chunk, first, count,
                                                                               x.from(group + token), y + token);
        });
    }
    for (size_t token = 0; token < members; ++token)
      for (size_t p = 0; p < kPanels; ++p) store_panel(w, panel + p, y[token][p], out + (group + token) * out_stride);
  }
}

template <Format kFormat>
void linear_format(const Matrix& w, const QuantRows& x, size_t tokens, size_t begin, size_t end, float* out,
                   size_t out_stride) {
  const bool direct = tokens <= kDirectTokens;
  auto* pair = direct ? direct_panels<kFormat, 2> : chunked_panels<kFormat, 2>;
  auto* single = direct ? direct_panels<kFormat, 1> : chunked_panels<kFormat, 1>;
  size_t panel = begin;
  // One token waits for memory alone, and memory is quickest when it is read as one stream.
  if (tokens > 1)
    for (; panel + 2 <= end; panel += 2) pair(w, x, tokens, panel, out, out_stride);
  for (; panel < end; ++panel) single(w, x, tokens, panel, out, out_stride);
}

void linear_quant(const Matrix& w, const QuantRows& x, size_t tokens, size_t begin, size_t end, float* out,
                  size_t out_stride) {
  switch (w.format) {
    case Format::kQ40:
      return linear_format<Format::kQ40>(w, x, tokens, begin, end, out, out_stride);
    case Format::kQ41:
      return linear_format<Format::kQ41>(w, x, tokens, begin, end, out, out_stride);
    case Format::kQ50:
      return linear_format<Format::kQ50>(w, x, tokens, begin, end, out, out_stride);
    case Format::kQ51:
      return linear_format<Format::kQ51>(w, x, tokens, begin, end, out, out_stride);
    case Format::kQ80:
      return linear_format<Format::kQ80>(w, x, tokens, begin, end, out, out_stride);
    case Format::kQ4K:
      return linear_format<Format::kQ4K>(w, x, tokens, begin, end, out, out_stride);
    case Format::kQ5K:
      return linear_format<Format::kQ5K>(w, x, tokens, begin, end, out, out_stride);
    case Format::kQ6K:
      return linear_format<Format::kQ6K>(w, x, tokens, begin, end, out, out_stride);
    default:
      return;  // float formats never come here
  }
}
