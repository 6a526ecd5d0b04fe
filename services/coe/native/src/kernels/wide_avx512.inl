// Registers of 512 bits for tiles_x86.inl: two panels side by side. Included before it.

typedef uint16_t Lanes16 __attribute__((vector_size(64)));  // 2 columns of 16 rows
typedef int32_t I16 __attribute__((vector_size(64)));

inline V16 side_by_side(V8 low, V8 high) {
  return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

// The quants of two panels, 32 bytes of each at a time.
struct PairQuants {
  const uint8_t* low;
  const uint8_t* high;
  Lanes16 operator[](int i) const {
    // With words, GCC 12 generates a permutation: three operations instead of one.
    typedef int64_t Quarters __attribute__((vector_size(32)));
    const auto first = reinterpret_cast<Quarters>(PanelQuants{low}[i]);
    const auto second = reinterpret_cast<Quarters>(PanelQuants{high}[i]);
    return reinterpret_cast<Lanes16>(__builtin_shufflevector(first, second, 0, 1, 2, 3, 4, 5, 6, 7));
  }
};

struct Wide {
  using Rows = QuantRows;
  using Lanes = Lanes16;
  using Sum = __m512i;
  using Floats = V16;
  static constexpr size_t kPanels = 2;
  static constexpr size_t kTileTokens = 8;
  static constexpr size_t kChains = 4;
  static constexpr size_t kDirectTokens = SIZE_MAX;
  static constexpr size_t kColumns = 2;

  static PairQuants quants(const uint8_t* of_first, size_t panel_bytes) { return {of_first, of_first + panel_bytes}; }
  // The masked forms, with all lanes set: GCC 12 warns about undefined values inside the others.
  static constexpr __mmask16 kAll = 0xffff;
  static V16 halves(const uint8_t* of_first, size_t panel_bytes) {
    const auto half = [](const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); };
    const __m256i both = _mm256_set_m128i(half(of_first + panel_bytes), half(of_first));
    return reinterpret_cast<V16>(_mm512_maskz_cvtph_ps(kAll, both));
  }
  template <bool kSigned>
  static V16 bytes(const uint8_t* of_first, size_t panel_bytes) {
    const auto eight = [](const uint8_t* p) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)); };
    const __m128i both = _mm_unpacklo_epi64(eight(of_first), eight(of_first + panel_bytes));
    return to_floats(kSigned ? _mm512_maskz_cvtepi8_epi32(kAll, both) : _mm512_maskz_cvtepu8_epi32(kAll, both));
  }
  static Lanes broadcast(const void* q) { return reinterpret_cast<Lanes>(_mm512_set1_epi32(word_at(q))); }
  template <unsigned kBits>
  [[gnu::always_inline]] static void add_products(Sum& sum, Lanes w, Lanes x) {
    sum = _mm512_dpwssd_epi32(sum, reinterpret_cast<__m512i>(w), reinterpret_cast<__m512i>(x));
    __asm__("" : "+v"(sum));
  }
  static Sum add(Sum a, Sum b) { return _mm512_add_epi32(a, b); }
  template <unsigned kBits>
  static Sum of_rows(Sum sum) {
    return sum;
  }
  static V16 to_floats(Sum sum) { return __builtin_convertvector(reinterpret_cast<I16>(sum), V16); }
  static V16 splat_all(float x) { return reinterpret_cast<V16>(_mm512_set1_ps(x)); }
  static void store(const Matrix& w, size_t panel, V16 y, float* out) {
    store_panel(w, panel, __builtin_shufflevector(y, y, 0, 1, 2, 3, 4, 5, 6, 7), out);
    store_panel(w, panel + 1, __builtin_shufflevector(y, y, 8, 9, 10, 11, 12, 13, 14, 15), out);
  }
};
