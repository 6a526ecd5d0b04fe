// Quants of the packed formats as 16-bit lanes. Included after linear_float.inl.
//
// A step is 4 columns of 8 rows, a byte each. Half of a step is one register of 16-bit lanes: columns 0 and 2 of every
// row, or 1 and 3. Activations lie in that order (QuantRows), so a multiply-and-add of pairs makes one sum a row.

constexpr int kHalfSteps = 16;  // of a block

// The high bits of steps 2i and 2i + 1 in formats of 5 and 6 bits, moved to bit 4 of each byte.
template <unsigned kBits>
inline void high_bits(const __m256i* lanes, int i, __m256i& even, __m256i& odd) {
  if constexpr (kBits == 5) {
    const __m256i bit = _mm256_set1_epi8(16);
    const __m256i high = _mm256_loadu_si256(lanes + 4);  // bit s of a byte belongs to step s
    even = i < 2 ? _mm256_slli_epi16(high, 4 - 2 * i) : _mm256_srli_epi16(high, 2 * i - 4);
    odd = i < 2 ? _mm256_slli_epi16(high, 3 - 2 * i) : _mm256_srli_epi16(high, 2 * i - 3);
    even = _mm256_and_si256(even, bit);
    odd = _mm256_and_si256(odd, bit);
  } else {
    const __m256i bits = _mm256_set1_epi8(0x30);
    const __m256i high = _mm256_loadu_si256(lanes + 4 + i / 2);  // bits 2 (s % 4) and up belong to step s
    even = i % 2 == 0 ? _mm256_slli_epi16(high, 4) : high;
    odd = i % 2 == 0 ? _mm256_slli_epi16(high, 2) : _mm256_srli_epi16(high, 2);
    even = _mm256_and_si256(even, bits);
    odd = _mm256_and_si256(odd, bits);
  }
}

// The four half steps of steps 2i and 2i + 1, i < 4.
template <unsigned kBits>
inline void unpack(const uint8_t* quants, int i, __m256i* half) {
  const auto* lanes = reinterpret_cast<const __m256i*>(quants);
  if constexpr (kBits == 8) {
    for (int s = 0; s < 2; ++s) {
      const __m256i step = _mm256_loadu_si256(lanes + 2 * i + s);
      half[2 * s] = _mm256_srai_epi16(_mm256_slli_epi16(step, 8), 8);
      half[2 * s + 1] = _mm256_srai_epi16(step, 8);
    }
    return;
  }
  const __m256i both = _mm256_loadu_si256(lanes + i);
  if constexpr (kBits == 4) {
    const __m256i nibble = _mm256_set1_epi16(15);
    half[0] = _mm256_and_si256(both, nibble);
    half[1] = _mm256_and_si256(_mm256_srli_epi16(both, 8), nibble);
    half[2] = _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble);
    half[3] = _mm256_srli_epi16(both, 12);
  } else {
    const __m256i nibbles = _mm256_set1_epi8(15);
    const __m256i byte = _mm256_set1_epi16(255);
    __m256i step[2];
    high_bits<kBits>(lanes, i, step[0], step[1]);
    step[0] = _mm256_or_si256(step[0], _mm256_and_si256(both, nibbles));
    step[1] = _mm256_or_si256(step[1], _mm256_and_si256(_mm256_srli_epi16(both, 4), nibbles));
    for (int s = 0; s < 2; ++s) {
      half[2 * s] = _mm256_and_si256(step[s], byte);
      half[2 * s + 1] = _mm256_srli_epi16(step[s], 8);
    }
  }
}

inline V8 bytes_to_floats(const uint8_t* p, bool is_signed) {
  const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return reinterpret_cast<V8>(
      _mm256_cvtepi32_ps(is_signed ? _mm256_cvtepi8_epi32(eight) : _mm256_cvtepu8_epi32(eight)));
}

// value = scale * q + offset for the rows of sub-block `sub` of a record. Without an offset it is not touched.
template <Format kFormat>
inline void scales_at(const uint8_t* record, size_t sub, V8& scale, V8& offset) {
  constexpr FormatTraits t = traits(kFormat);
  const uint8_t* sc = record + 16 * (1 + size_t{t.has_m});
  scale = load8_half(record);
  if constexpr (t.subs != 0) scale *= bytes_to_floats(sc + sub * 8, !t.has_mn);
  if constexpr (t.has_mn) {
    offset = -(load8_half(record + 16) * bytes_to_floats(sc + t.subs * 8 + sub * 8, false));
  } else if constexpr (t.has_m) {
    offset = load8_half(record + 16);
  } else if constexpr (t.zero != 0) {
    offset = scale * splat(static_cast<float>(-t.zero));
  }
}
