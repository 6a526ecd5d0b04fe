// Prefetches weights. The panels that are multiplied together (a tile) are adjacent, and as separate streams they are
// too short for the hardware prefetcher to detect in time. Included before tiles_x86.inl.
//
// On Intel processors each panel is prefetched separately: a Xeon with AMX thus reads at 0.95 of memcmp's rate. Zen 4
// reads four parallel streams at half the rate of one, however early each is prefetched, so there the next tile is
// prefetched as a single stream; with AVX-512 into L2, which made reading one token's weights 1.3 times as fast.

constexpr size_t kPanelAhead = 4096;
#if defined(__AVX512VNNI__)
constexpr size_t kTileAhead = 4096;  // beyond the next tile
constexpr _mm_hint kTileLevel = _MM_HINT_T1;
#else
constexpr size_t kTileAhead = 0;
constexpr _mm_hint kTileLevel = _MM_HINT_T0;
#endif

template <size_t kPanels, size_t kBlockBytes>
class Ahead {
 public:
  Ahead(const uint8_t* tile, size_t panel_bytes)
      : by_panel_(is_intel()),
        panel_bytes_(panel_bytes),
        end_(tile + (kPanelAhead / panel_bytes * kPanels + 1) * panel_bytes),
        at_(by_panel_ ? end_ - panel_bytes + kPanelAhead % panel_bytes : tile + kPanels * panel_bytes + kTileAhead) {}

  // For the next block of every panel.
  void fetch() {
    if (by_panel_) {
      fetch_panels();
    } else {
      for (size_t line = 0; line < kPanels * kBlockBytes; line += 64) _mm_prefetch(at_ + line, kTileLevel);
      at_ += kPanels * kBlockBytes;
    }
  }

 private:
  void fetch_panels() {
    for (size_t p = 0; p < kPanels; ++p)
      for (size_t line = 0; line < kBlockBytes; line += 64) _mm_prefetch(at_ + p * panel_bytes_ + line, _MM_HINT_T0);
    at_ += kBlockBytes;
    if (at_ >= end_) {  // goes on in the next tile's first panel
      at_ += (kPanels - 1) * panel_bytes_;
      end_ += kPanels * panel_bytes_;
    }
  }

  bool by_panel_;
  size_t panel_bytes_;
  const uint8_t* end_;
  const uint8_t* at_;
};
