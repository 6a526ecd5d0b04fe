// Linear on 8-bit activations with AVX2, or with AVX-512 VNNI's dot product on 256-bit registers.
// A vector holds 4 columns of 8 rows; 4 activations are broadcast to all rows, so nothing is summed across lanes.
// Included after linear_float.inl, with kVnni defined.

// Quants of steps 2i and 2i + 1 of a block, as unsigned bytes (8 bits: signed, or biased by 128 for VNNI).
template <unsigned kBits>
inline void steps_at(const uint8_t* quants, int i, __m256i& even, __m256i& odd) {
  const auto* lanes = reinterpret_cast<const __m256i*>(quants);
  if constexpr (kBits == 8) {
    even = _mm256_loadu_si256(lanes + 2 * i);
    odd = _mm256_loadu_si256(lanes + 2 * i + 1);
    if constexpr (kVnni) {
      even = _mm256_xor_si256(even, _mm256_set1_epi8(static_cast<char>(0x80)));
      odd = _mm256_xor_si256(odd, _mm256_set1_epi8(static_cast<char>(0x80)));
    }
    return;
  }
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i both = _mm256_loadu_si256(lanes + i);
  even = _mm256_and_si256(both, nibble);
  odd = _mm256_and_si256(_mm256_srli_epi16(both, 4), nibble);
  if constexpr (kBits == 5) {
    const __m256i bit = _mm256_set1_epi8(16);
    const __m256i high = _mm256_loadu_si256(lanes + 4);
    // Bit s of a byte moves to bit 4.
    const __m256i at_even = i < 2 ? _mm256_slli_epi16(high, 4 - 2 * i) : _mm256_srli_epi16(high, 2 * i - 4);
    const __m256i at_odd = i < 2 ? _mm256_slli_epi16(high, 3 - 2 * i) : _mm256_srli_epi16(high, 2 * i - 3);
    even = _mm256_or_si256(even, _mm256_and_si256(at_even, bit));
    odd = _mm256_or_si256(odd, _mm256_and_si256(at_odd, bit));
  }
  if constexpr (kBits == 6) {
    const __m256i bits = _mm256_set1_epi8(0x30);
    const __m256i high = _mm256_loadu_si256(lanes + 4 + i / 2);
    // Bits 2 (s % 4) and up of a byte move to bit 4: left by 4 and 2, or by 0 and right by 2.
    const __m256i at_even = i % 2 == 0 ? _mm256_slli_epi16(high, 4) : high;
    const __m256i at_odd = i % 2 == 0 ? _mm256_slli_epi16(high, 2) : _mm256_srli_epi16(high, 2);
    even = _mm256_or_si256(even, _mm256_and_si256(at_even, bits));
    odd = _mm256_or_si256(odd, _mm256_and_si256(at_odd, bits));
  }
}

inline __m256i broadcast4(const int8_t* q) {
  int32_t four;
  __builtin_memcpy(&four, q, sizeof four);
  return _mm256_set1_epi32(four);
}

// Keeps the compiler from moving the multiplications of later steps before this point: it would spill what they give.
inline void pin(__m256i& value) { __asm__("" : "+x"(value)); }

inline __m256i widen(__m256i pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }

// Sum over 16 columns (steps 4 half .. 4 half + 3) for each of kTokens rows of activations. With AVX2 and up to 5 bits
// the result is 16-bit pairs that still have to be widened: at most 4 steps of 2 * 31 * 127 fit.
template <unsigned kBits, size_t kTokens>
inline void dot_half(const uint8_t* quants, int half, const int8_t* q, size_t stride, __m256i* sum) {
  for (int i = 2 * half; i < 2 * half + 2; ++i) {
    __m256i even;
    __m256i odd;
    steps_at<kBits>(quants, i, even, odd);
    for (size_t t = 0; t < kTokens; ++t) {
      const __m256i x0 = broadcast4(q + t * stride + 8 * i);
      const __m256i x1 = broadcast4(q + t * stride + 8 * i + 4);
      if constexpr (kVnni) {
#if defined(__AVX512VNNI__)
        sum[t] = _mm256_dpbusd_epi32(_mm256_dpbusd_epi32(sum[t], even, x0), odd, x1);
#endif
      } else if constexpr (kBits == 8) {
        const __m256i p0 = _mm256_maddubs_epi16(_mm256_abs_epi8(even), _mm256_sign_epi8(x0, even));
        const __m256i p1 = _mm256_maddubs_epi16(_mm256_abs_epi8(odd), _mm256_sign_epi8(x1, odd));
        sum[t] = _mm256_add_epi32(sum[t], _mm256_add_epi32(widen(p0), widen(p1)));
      } else {
        const __m256i p = _mm256_add_epi16(_mm256_maddubs_epi16(even, x0), _mm256_maddubs_epi16(odd, x1));
        sum[t] = kBits == 6 ? _mm256_add_epi32(sum[t], widen(p)) : _mm256_add_epi16(sum[t], p);
      }
      pin(sum[t]);
    }
  }
}

template <unsigned kBits>
inline V8 to_floats(__m256i sum) {
  constexpr bool kPairs = !kVnni && (kBits == 4 || kBits == 5);
  return reinterpret_cast<V8>(_mm256_cvtepi32_ps(kPairs ? widen(sum) : sum));
}

inline V8 bytes_to_floats(const uint8_t* p, bool is_signed) {
  const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return reinterpret_cast<V8>(
      _mm256_cvtepi32_ps(is_signed ? _mm256_cvtepi8_epi32(eight) : _mm256_cvtepu8_epi32(eight)));
}

// value = scale * q + offset for the rows of sub-block `sub` of a record.
template <Format kFormat>
inline void scales_at(const uint8_t* record, size_t sub, V8& scale, V8& offset) {
  constexpr FormatTraits t = traits(kFormat);
  constexpr float kZero = kFormat == Format::kQ80 ? (kVnni ? 128.0F : 0.0F) : static_cast<float>(t.zero);
  const uint8_t* sc = record + 16 * (1 + size_t{t.has_m});
  scale = load8_half(record);
  if constexpr (t.subs != 0) scale *= bytes_to_floats(sc + sub * 8, !t.has_mn);
  if constexpr (t.has_mn) {
    offset = -(load8_half(record + 16) * bytes_to_floats(sc + t.subs * 8 + sub * 8, false));
  } else if constexpr (t.has_m) {
    offset = load8_half(record + 16);
  } else {
    offset = scale * splat(-kZero);
  }
}

template <Format kFormat, size_t kTokens>
inline void tile(const Matrix& w, size_t panel, const QuantRows& x, float* out, size_t out_stride) {
  constexpr FormatTraits t = traits(kFormat);
  constexpr bool kOffset = kFormat != Format::kQ80 || kVnni;
  constexpr size_t kInRecord = t.width / kBlock;
  const uint8_t* record = w.panel(panel);
  const size_t blocks = w.cols / kBlock;
  V8 y[kTokens] = {};
  for (size_t first = 0; first < blocks; first += kInRecord, record += t.record_bytes()) {
    for (size_t in = 0; in < kInRecord; ++in) {
      const size_t b = first + in;
      const uint8_t* quants = record + t.head_bytes() + in * t.quant_bytes();
      const int8_t* q = x.q + b * kBlock;
      V8 scale;
      V8 offset;
      if constexpr (t.subs == 16) {
        for (int half = 0; half < 2; ++half) {
          __m256i sum[kTokens] = {};
          dot_half<t.bits, kTokens>(quants, half, q, x.cols, sum);
          scales_at<kFormat>(record, 2 * in + static_cast<size_t>(half), scale, offset);
          for (size_t i = 0; i < kTokens; ++i) {
            y[i] += to_floats<t.bits>(sum[i]) * (scale * splat(x.scale[i * blocks + b]));
            y[i] += offset * splat(x.sum16[i * 2 * blocks + 2 * b + static_cast<size_t>(half)]);
          }
        }
      } else {
        __m256i sum[kTokens] = {};
        dot_half<t.bits, kTokens>(quants, 0, q, x.cols, sum);
        V8 floats[kTokens];
        if constexpr (t.bits == 5 && !kVnni) {
          __m256i rest[kTokens] = {};
          dot_half<t.bits, kTokens>(quants, 1, q, x.cols, rest);
          for (size_t i = 0; i < kTokens; ++i) floats[i] = to_floats<t.bits>(sum[i]) + to_floats<t.bits>(rest[i]);
        } else {
          dot_half<t.bits, kTokens>(quants, 1, q, x.cols, sum);
          for (size_t i = 0; i < kTokens; ++i) floats[i] = to_floats<t.bits>(sum[i]);
        }
        scales_at<kFormat>(record, in, scale, offset);
        for (size_t i = 0; i < kTokens; ++i) {
          y[i] += floats[i] * (scale * splat(x.scale[i * blocks + b]));
          if constexpr (kOffset) y[i] += offset * splat(x.sum32[i * blocks + b]);
        }
      }
    }
  }
  for (size_t i = 0; i < kTokens; ++i) store_panel(w, panel, y[i], out + i * out_stride);
}

template <Format kFormat>
void linear_format(const Matrix& w, const QuantRows& x, size_t tokens, size_t begin, size_t end, float* out,
                   size_t out_stride) {
  for (size_t panel = begin; panel < end; ++panel) {
    size_t token = 0;
    for (; token + 4 <= tokens; token += 4)
      tile<kFormat, 4>(w, panel, x.from(token), out + token * out_stride, out_stride);
    switch (tokens - token) {
      case 3:
        tile<kFormat, 3>(w, panel, x.from(token), out + token * out_stride, out_stride);
        break;
      case 2:
        tile<kFormat, 2>(w, panel, x.from(token), out + token * out_stride, out_stride);
        break;
      case 1:
        tile<kFormat, 1>(w, panel, x.from(token), out + token * out_stride, out_stride);
        break;
      default:
        break;
    }
  }
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
