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

// 32 integers in [-128, 127] as bytes.
void store_bytes(const I8* whole, int8_t* q) {
#if defined(__AVX2__)
  const auto* w = reinterpret_cast<const __m256i*>(whole);
  const __m256i halves = _mm256_packs_epi16(_mm256_packs_epi32(w[0], w[1]), _mm256_packs_epi32(w[2], w[3]));
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);  // packing works within 128 bits
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(q), _mm256_permutevar8x32_epi32(halves, order));
#else
  for (int i = 0; i < 32; ++i) q[i] = static_cast<int8_t>(whole[i / 8][i % 8]);
#endif
}

void quantise_block(const float* x, int8_t* q, float& scale, float* sum16, float& sum32) {
  V8 v[4];
  V8 most = splat(0.0F);
  for (int i = 0; i < 4; ++i) {
    v[i] = load8(x + 8 * i);
    most = max8(most, max8(v[i], -v[i]));
  }
  const float largest = largest8(most);
  scale = largest * (1.0F / 127.0F);
  const V8 inverse = splat(largest > 0.0F ? 127.0F / largest : 0.0F);
  const V8 magic = splat(12582912.0F);  // adding it rounds to nearest, ties to even
  I8 whole[4];
  for (int i = 0; i < 4; ++i) whole[i] = __builtin_convertvector((v[i] * inverse + magic) - magic, I8);
  store_bytes(whole, q);
  // The sums are small integers: adding them as floats is exact.
  for (int half = 0; half < 2; ++half)
    sum16[half] = scale * sum8(__builtin_convertvector(whole[2 * half] + whole[2 * half + 1], V8));
  sum32 = sum16[0] + sum16[1];
}

void quantise(const float* x, const QuantRows& out) {
  for (size_t b = 0; b < out.cols / kBlock; ++b)
    quantise_block(x + b * kBlock, out.q + b * kBlock, out.scale[b], out.sum16 + 2 * b, out.sum32[b]);
}

// The row, then its rounding error: two rows of 8-bit values that add up to about 15 bits.
void quantise_twice(const float* x, const QuantRows& out) {
  const QuantRows rest = out.from(1);
  for (size_t b = 0; b < out.cols / kBlock; ++b) {
    const float* from = x + b * kBlock;
    int8_t* q = out.q + b * kBlock;
    quantise_block(from, q, out.scale[b], out.sum16 + 2 * b, out.sum32[b]);
    float error[kBlock];
    for (size_t i = 0; i < kBlock; ++i) error[i] = from[i] - out.scale[b] * static_cast<float>(q[i]);
    quantise_block(error, rest.q + b * kBlock, rest.scale[b], rest.sum16 + 2 * b, rest.sum32[b]);
  }
}

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
