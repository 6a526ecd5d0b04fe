// Digits for few tokens: a pipeline. Unpacked weights are used for a single group of tokens, so unpacking a chunk of
// them first would gain nothing, and tile operations, stores and vector operations overlap only if they belong to
// different blocks. Included after digits_amx.inl.

// Where a pipeline of two panels at a time has come to.
template <Format kFormat>
class BlockCursor {
 public:
  BlockCursor(const Matrix& w, size_t begin, size_t end)
      : bytes_(w.panel_bytes()),
        low_bytes_(w.low_panel_bytes()),
        blocks_(w.cols / kBlock),
        panel_(begin),
        end_(end),
        first_(w.panel(begin)),
        low_(w.low_panel(begin)) {}
  // Bytes to the second panel; 0 where there is none.
  [[nodiscard]] size_t distance() const { return panel_ + 1 < end_ ? bytes_ : 0; }
  [[nodiscard]] const uint8_t* record() const { return first_ + block_ / kInRecord * kTraits.record_bytes(); }
  [[nodiscard]] size_t in_record() const { return block_ % kInRecord; }
  [[nodiscard]] LowBlock low() const {
    return {low_ + block_ * kTraits.low_bytes(), panel_ + 1 < end_ ? low_bytes_ : 0};
  }
  // The block's share of its record, roughly where it lies. Not inlined at once, GCC 12 takes it for without effect.
  [[gnu::always_inline]] void fetch() const {
    constexpr size_t kShare = kTraits.record_bytes() / kInRecord;
    const uint8_t* share = first_ + block_ * kShare;
    for (size_t at = 0; at < kShare; at += 64) {
      _mm_prefetch(share + at, _MM_HINT_T0);
      _mm_prefetch(share + bytes_ + at, _MM_HINT_T0);
    }
    for (size_t at = 0; at < kTraits.low_bytes(); at += 64) {
      _mm_prefetch(low_ + block_ * kTraits.low_bytes() + at, _MM_HINT_T0);
      _mm_prefetch(low_ + low_bytes_ + block_ * kTraits.low_bytes() + at, _MM_HINT_T0);
    }
  }
  void next() {
    if (++block_ < blocks_) return;
    block_ = 0;
    panel_ += Wide::kPanels;
    first_ += Wide::kPanels * bytes_;
    low_ += Wide::kPanels * low_bytes_;
  }

 private:
  static constexpr FormatTraits kTraits = traits(kFormat);
  static constexpr size_t kInRecord = kTraits.width / kBlock;
  size_t bytes_, low_bytes_, blocks_, panel_, end_, block_ = 0;
  const uint8_t* first_;
  const uint8_t* low_;
};

constexpr size_t kUnpackedAhead = 3;  // blocks: what was just stored can't be read at once
constexpr size_t kFetchedAhead = 16;  // blocks before those are unpacked

// Each step multiplies a run, unpacks a later block, scales the run before the last and stores the last one.
template <Format kFormat, size_t kTokens>
[[gnu::noinline]] void pipelined_panels(const Matrix& w, const DigitBlock* x, size_t begin, size_t end, float* out,
                                        size_t out_stride) {
  using Tiles = RunTiles<traits(kFormat).is_signed(), kTokens>;
  constexpr size_t kRunsInBlock = kRuns<kFormat>;
  constexpr size_t kSlots = 8;     // of unpacked blocks, those under way and those ahead
  constexpr size_t kUnderWay = 4;  // runs whose sums are kept
  static_assert(kUnpackedAhead + 3 <= kSlots);
  alignas(64) uint8_t quants[kSlots][kBytesOfBlock];
  alignas(64) I16 sums[kUnderWay][kTokens > kDigitSide ? 4 * kDigitSide : 2 * kTokens];
  V16 scale[kSlots][kRunsInBlock];
  V16 offset[kSlots][kRunsInBlock];
  const size_t blocks = w.cols / kBlock;
  const size_t in_all = (end - begin + 1) / Wide::kPanels * blocks;
  const size_t runs = in_all * kRunsInBlock;
  const size_t runs_of_panel = blocks * kRunsInBlock;
  BlockCursor<kFormat> unpacking(w, begin, end);
  BlockCursor<kFormat> fetching(w, begin, end);
  for (size_t i = 0; i < kFetchedAhead; ++i) fetching.next();
  size_t unpacked = 0;
  const auto unpack_next = [&]() COE_INLINE {
    if (unpacked == in_all) return;
    const size_t slot = unpacked++ % kSlots;
    unpack_block<kFormat>(unpacking.record(), unpacking.in_record(), unpacking.distance(), unpacking.low(),
                          quants[slot], scale[slot], offset[slot]);
    unpacking.next();
    fetching.fetch();
    fetching.next();
  };
  size_t multiplying = 0;  // which run of its panels
  size_t scaling = 0;      // the same, of the panels at `begin`
  V16 y[kTokens];
  unrolled<kTokens>([&](auto t) COE_INLINE { y[t] = splat16(0.0F); });
  const auto step = [&](size_t run, auto second) COE_INLINE {
    if (run < runs) {
      Tiles::template multiply<second.value>(
          digits_of<kRunsInBlock>(x, multiplying),
          quants[run / kRunsInBlock % kSlots] + run % kRunsInBlock * (kBytesOfBlock / kRunsInBlock));
      if (++multiplying == runs_of_panel) multiplying = 0;
    }
    if (run % kRunsInBlock == 0) unpack_next();
    if (run >= 2 && run < runs + 2) {
      const size_t done = run - 2;
      const size_t slot = done / kRunsInBlock % kSlots;
      const DigitBlock& block = x[scaling / kRunsInBlock];
      const size_t in = done % kRunsInBlock;
      add_digits<kHasOffset<kFormat>>(y, sums[done % kUnderWay], scale[slot][in], offset[slot][in], block.scale,
                                      kRunsInBlock == 2 ? block.sum16[in] : block.sum32);
      if (++scaling == runs_of_panel) {
        scaling = 0;
        unrolled<kTokens>([&](auto t) COE_INLINE {
          store_rows(w, begin, end, y[t], out + t * out_stride);
          y[t] = splat16(0.0F);
        });
        begin += Wide::kPanels;
      }
    }
    if (run >= 1 && run <= runs) Tiles::template store<!second.value>(sums[(run - 1) % kUnderWay]);
    __asm__ volatile("" ::: "memory");  // the compiler does not know what tiles read and write
  };
  for (size_t i = 0; i < kUnpackedAhead; ++i) unpack_next();
  __asm__ volatile("" ::: "memory");
  for (size_t run = 0; run < runs + 2; run += 2) {
    step(run, std::false_type());
    step(run + 1, std::true_type());
  }
}

void linear_digits(const Matrix& w, const DigitRows& x, size_t tokens, size_t begin, size_t end, float* out,
                   size_t out_stride) {
  with_format(w.format, [&](auto format) {
    if constexpr (!traits(format.value).is_float) {
      with_tokens<kDigitSide>(
          tokens, [format](auto members) { _tile_loadconfig(&kDigitConfig<kRuns<format.value>, members.value>); });
      constexpr size_t kFewest = DigitRows::worth(format.value);
      if (tokens >= kFewest && tokens <= DigitBlock::kTokens) {
        with_tokens<DigitBlock::kTokens, kFewest>(tokens, [&](auto members) {
          pipelined_panels<format.value, members.value>(w, x.at(0, 0), begin, end, out, out_stride);
        });
      } else {
        digit_panels<format.value>(w, x, tokens, begin, end, out, out_stride);
      }
    }
  });
  _tile_release();
}
