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

void quantise_block(const float* x, int8_t* q, float& scale, float* sum16, float& sum32) {
  V8 v[4];
  V8 most = splat(0.0F);
  for (int i = 0; i < 4; ++i) {
    v[i] = load8(x + 8 * i);
    most = max8(most, max8(v[i], -v[i]));
  }
  float largest = most[0];
  for (int i = 1; i < 8; ++i) largest = most[i] > largest ? most[i] : largest;
  scale = largest / 127.0F;
  const V8 inverse = splat(largest > 0.0F ? 127.0F / largest : 0.0F);
  const V8 magic = splat(12582912.0F);  // adding it rounds to nearest, ties to even
  int sums[2] = {0, 0};
  I8 whole[4];
  for (int i = 0; i < 4; ++i) whole[i] = __builtin_convertvector((v[i] * inverse + magic) - magic, I8);
  for (int i = 0; i < 4; ++i) {
    typedef int8_t Bytes8 __attribute__((vector_size(8)));
    const auto bytes = __builtin_convertvector(whole[i], Bytes8);
    __builtin_memcpy(q + 8 * i, &bytes, sizeof bytes);
  }
  for (int half = 0; half < 2; ++half) {
    const I8 both = whole[2 * half] + whole[2 * half + 1];
    for (int lane = 0; lane < 8; ++lane) sums[half] += both[lane];
    sum16[half] = scale * static_cast<float>(sums[half]);
  }
  sum32 = scale * static_cast<float>(sums[0] + sums[1]);
}

void quantise(const float* x, const QuantRows& out) {
  for (size_t b = 0; b < out.cols / kBlock; ++b)
    quantise_block(x + b * kBlock, out.q + b * kBlock, out.scale[b], out.sum16 + 2 * b, out.sum32[b]);
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
