// Linear with 8-bit activations: one instruction multiplies four columns of each row, instead of two with 16-bit
// activations. Included after tiles_x86.inl.

#if defined(__AVX512VNNI__)

template <class Words>
struct InBytes : Words {
  using Rows = ByteRows;
  using typename Words::Lanes;
  using typename Words::Sum;
  static constexpr size_t kColumns = 4;
  static constexpr size_t kChains = 2;
  static constexpr size_t kDirectTokens = SIZE_MAX;

  template <unsigned kBits>
  [[gnu::always_inline]] static void add_products(Sum& sum, Lanes w, Lanes x) {
    if constexpr (sizeof(Sum) == sizeof(__m512i)) {
      sum = _mm512_dpbusd_epi32(sum, reinterpret_cast<__m512i>(w), reinterpret_cast<__m512i>(x));
    } else {
      sum = _mm256_dpbusd_epi32(sum, reinterpret_cast<__m256i>(w), reinterpret_cast<__m256i>(x));
    }
    __asm__("" : "+v"(sum));
  }
};

#else

// Pairs of products are 16 bits, which hold a whole run's of quants of 4 bits: those are widened once. They do not hold
// two products of quants of 8.
template <class Words>
struct InBytes : Words {
  using Rows = ByteRows;
  using typename Words::Lanes;
  using typename Words::Sum;
  static constexpr size_t kColumns = 4;
  static constexpr size_t kDirectTokens = SIZE_MAX;

  static Sum widened(Sum pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }

  template <unsigned kBits>
  [[gnu::always_inline]] static void add_products(Sum& sum, Lanes w, Lanes x) {
    const __m256i pairs = _mm256_maddubs_epi16(reinterpret_cast<__m256i>(w), reinterpret_cast<__m256i>(x));
    sum = kBits == 4 ? _mm256_add_epi16(sum, pairs) : _mm256_add_epi32(sum, widened(pairs));
    __asm__("" : "+x"(sum));
  }
  template <unsigned kBits>
  static Sum of_rows(Sum sum) {
    return kBits == 4 ? widened(sum) : sum;
  }
};

#endif

// For weights of at most kBits.
template <unsigned kBits>
void linear_bytes(const Matrix& w, const ByteRows& x, size_t tokens, size_t begin, size_t end, float* out,
                  size_t out_stride) {
  with_format(w.format, [&](auto format) {
    if constexpr (traits(format.value).bits <= kBits)
      linear_format<InBytes, format.value>(w, x, tokens, begin, end, out, out_stride);
  });
}
