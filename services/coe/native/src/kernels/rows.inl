// Kernels over single rows. Included after vec.inl.

void rms_norm(const float* x, const float* weight, size_t n, float epsilon, float* out) {
  V8 a = splat(0.0F);
  V8 b = splat(0.0F);
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const V8 u = load8(x + i);
    const V8 v = load8(x + i + 8);
    a += u * u;
    b += v * v;
  }
  float sum = sum8(a + b);
  for (; i < n; ++i) sum += x[i] * x[i];
  const V8 inverse = splat(1.0F / __builtin_sqrtf(sum / static_cast<float>(n) + epsilon));
  map8(n, [&](size_t at, size_t count) {
    V8 v = load_some(x + at, count) * inverse;
    if (weight != nullptr) v *= load_some(weight + at, count);
    store_some(out + at, v, count);
  });
}

// 32 integers that fit 16 bits, in the lanes of QuantRows.
inline void store_lanes(const I8* whole, int16_t* q) {
#if defined(__AVX2__)
  const auto* w = reinterpret_cast<const __m256i*>(whole);
  const __m256i middle_swapped =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15));
  for (int i = 0; i < 2; ++i) {
    const __m256i packed = _mm256_packs_epi32(w[2 * i], w[2 * i + 1]);  // works within 128 bits
    const __m256i lanes = _mm256_shuffle_epi8(packed, middle_swapped);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(q) + i, _mm256_permute4x64_epi64(lanes, _MM_SHUFFLE(3, 1, 2, 0)));
  }
#else
  for (size_t i = 0; i < kBlock; ++i) q[lane_of(i)] = static_cast<int16_t>(whole[i / 8][i % 8]);
#endif
}

// The same, in order.
inline void store_lanes(const I8* whole, int8_t* q) {
#if defined(__AVX2__)
  const auto* w = reinterpret_cast<const __m256i*>(whole);
  const __m256i words = _mm256_packs_epi16(_mm256_packs_epi32(w[0], w[1]), _mm256_packs_epi32(w[2], w[3]));
  const __m256i ordered = _mm256_permutevar8x32_epi32(words, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(q), ordered);
#else
  for (size_t i = 0; i < kBlock; ++i) q[i] = static_cast<int8_t>(whole[i / 8][i % 8]);
#endif
}

template <class Integer>
inline void quantise_block(const float* x, Integer* q, float& scale, float* sum16, float& sum32) {
  V8 v[4];
  V8 most = splat(0.0F);
  V8 check = splat(0.0F);
  for (int i = 0; i < 4; ++i) {
    v[i] = load8(x + 8 * i);
    most = max8(most, max8(v[i], -v[i]));
    check += v[i] - v[i];
  }
  constexpr float kMost = sizeof(Integer) == 1 ? kLargestByte : kLargestQuant;
  const Rounding rounding(largest8(most), check, kMost);
  if (rounding.is_none())
    for (V8& part : v) part = splat(0.0F);
  scale = rounding.step;
  const V8 inverse = splat(rounding.inverse);
  const V8 magic = splat(12582912.0F);  // adding it rounds to nearest, ties to even
  I8 whole[4];
  for (int i = 0; i < 4; ++i) whole[i] = __builtin_convertvector((v[i] * inverse + magic) - magic, I8);
  store_lanes(whole, q);
  // The sums are small integers, so adding them as floats is exact in any order.
  const V8 first = __builtin_convertvector(whole[0] + whole[1], V8);
  const V8 second = __builtin_convertvector(whole[2] + whole[3], V8);
  V8 sums = __builtin_shuffle(first, second, I8{0, 1, 2, 3, 8, 9, 10, 11}) +
            __builtin_shuffle(first, second, I8{4, 5, 6, 7, 12, 13, 14, 15});
  sums += swapped2(sums);
  sums += swapped1(sums);
  sum16[0] = scale * sums[0];
  sum16[1] = scale * sums[4];
  sum32 = sum16[0] + sum16[1];
}

template <class Integer>
void quantise_row(const float* x, const BlockRows<Integer>& out) {
  for (size_t b = 0; b < out.cols / kBlock; ++b)
    quantise_block(x + b * kBlock, out.q + b * kBlock, out.scale[b], out.sum16 + 2 * b, out.sum32[b]);
}

void quantise(const float* x, const QuantRows& out) { quantise_row(x, out); }
void bytes(const float* x, const ByteRows& out) { quantise_row(x, out); }

void silu_gate(const float* gate, const float* up, size_t n, float* out) {
  map8(n, [&](size_t at, size_t count) {
    const V8 g = load_some(gate + at, count);
    store_some(out + at, g / (splat(1.0F) + exp8(-g)) * load_some(up + at, count), count);
  });
}

void gelu_gate(const float* gate, const float* up, size_t n, float* out) {
  map8(n, [&](size_t at, size_t count) {
    const V8 g = load_some(gate + at, count);
    const V8 inner = splat(0.797884561F) * g * (splat(1.0F) + splat(0.044715F) * g * g);
    store_some(out + at, splat(0.5F) * g * (splat(1.0F) + tanh8(inner)) * load_some(up + at, count), count);
  });
}

void soft_cap(float* x, size_t n, float cap) {
  map8(n, [&](size_t at, size_t count) {
    store_some(x + at, splat(cap) * tanh8(load_some(x + at, count) / splat(cap)), count);
  });
}

void to_halves(const float* x, size_t n, uint16_t* out) {
  size_t i = 0;
#if defined(__F16C__)
  for (; i + 8 <= n; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_CUR_DIRECTION));
#endif
  for (; i < n; ++i) out[i] = float_to_half(x[i]);
}

inline bool all_are_numbers(const float* x, size_t n) {
  for (size_t i = 0; i < n; ++i)
    if (x[i] != x[i]) return false;
  return true;
}

void highest(const float* x, size_t count, size_t width, float* out) {
  for (size_t i = 0; i < count; ++i, x += width) {
    V8 most = load8(x);
    V8 check = most - most;  // of infinities: no number either
    for (size_t at = 8; at < width; at += 8) {
      const V8 v = load8(x + at);
      most = max8(v, most);
      check += v - v;
    }
    out[i] = largest8(most);
    if (any_is_no_number(check)) out[i] = all_are_numbers(x, width) ? out[i] : __builtin_nanf("");
  }
}
