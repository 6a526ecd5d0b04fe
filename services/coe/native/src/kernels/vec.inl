// Vectors of eight floats, with GCC's vector extension: one source for every instruction set. Each table_*.cc includes
// it inside an unnamed namespace, so that no function compiled for one instruction set is linked into another.

typedef float V8 __attribute__((vector_size(32)));
typedef int32_t I8 __attribute__((vector_size(32)));

inline V8 splat(float x) { return V8{x, x, x, x, x, x, x, x}; }

inline V8 load8(const float* p) {
  V8 v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

inline void store8(float* p, V8 v) { __builtin_memcpy(p, &v, sizeof v); }

inline float bits_to_float(uint32_t bits) {
  float f;
  __builtin_memcpy(&f, &bits, sizeof f);
  return f;
}

inline uint32_t float_bits(float f) {
  uint32_t bits;
  __builtin_memcpy(&bits, &f, sizeof bits);
  return bits;
}

inline float half_to_float(uint16_t h) {
  const uint32_t sign = static_cast<uint32_t>(h & 0x8000U) << 16;
  const uint32_t magnitude = h & 0x7fffU;
  if (magnitude >= 0x7c00U) return bits_to_float(sign | 0x7f800000U | (magnitude & 0x3ffU) << 13);
  if (magnitude >= 0x400U) return bits_to_float(sign | ((magnitude << 13) + 0x38000000U));
  const float small = static_cast<float>(magnitude) * 0x1p-24F;  // subnormal
  return sign != 0 ? -small : small;
}

// Rounds to nearest, ties to even; values beyond the range become infinity.
inline uint16_t float_to_half(float value) {
  const uint32_t bits = float_bits(value);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000U);
  const uint32_t magnitude = bits & 0x7fffffffU;
  if (magnitude >= 0x47800000U) return static_cast<uint16_t>(sign | (magnitude > 0x7f800000U ? 0x7e00U : 0x7c00U));
  if (magnitude < 0x38800000U) {
    // Subnormal: adding 0.5 leaves the rounded value in the low bits.
    const float shifted = bits_to_float(magnitude) + 0.5F;
    return static_cast<uint16_t>(sign | (float_bits(shifted) - 0x3f000000U));
  }
  const uint32_t rounded = magnitude + 0xfffU + (magnitude >> 13 & 1U) - 0x38000000U;
  return static_cast<uint16_t>(sign | rounded >> 13);
}

inline uint16_t load_u16(const uint8_t* p) {
  uint16_t v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

inline V8 load8_half(const void* p) {
#if defined(__F16C__)
  return reinterpret_cast<V8>(_mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p))));
#else
  V8 v;
  for (int i = 0; i < 8; ++i) v[i] = half_to_float(load_u16(static_cast<const uint8_t*>(p) + 2 * i));
  return v;
#endif
}

inline V8 load8_bf16(const uint8_t* p) {
  V8 v;
  for (int i = 0; i < 8; ++i) v[i] = bits_to_float(static_cast<uint32_t>(load_u16(p + 2 * i)) << 16);
  return v;
}

// Sixteen floats: one register if the instruction set has such, else two.
#if defined(__AVX512F__)
typedef float V16 __attribute__((vector_size(64)));
inline V16 splat16(float x) { return reinterpret_cast<V16>(_mm512_set1_ps(x)); }
inline V16 load16_half(const void* p) {
  return reinterpret_cast<V16>(_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(static_cast<const __m256i*>(p))));
}
#else
struct V16 {
  V8 low, high;
  V16& operator+=(const V16& other) {
    low += other.low;
    high += other.high;
    return *this;
  }
  friend V16 operator*(const V16& a, const V16& b) { return {a.low * b.low, a.high * b.high}; }
};
inline V16 splat16(float x) { return {splat(x), splat(x)}; }
inline V16 load16_half(const void* p) { return {load8_half(p), load8_half(static_cast<const uint16_t*>(p) + 8)}; }
#endif

inline V16 load16(const float* p) {
  V16 v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

inline void store16(float* p, const V16& v) { __builtin_memcpy(p, &v, sizeof v); }

#if defined(__AVX512F__)
inline V16 load16_bytes(const int8_t* p) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return reinterpret_cast<V16>(_mm512_maskz_cvtepi32_ps(0xffff, _mm512_maskz_cvtepi8_epi32(0xffff, bytes)));
}
#else
inline V8 load8_bytes(const int8_t* p) {
#if defined(__AVX2__)
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  return reinterpret_cast<V8>(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)));
#else
  V8 v;
  for (int i = 0; i < 8; ++i) v[i] = static_cast<float>(p[i]);
  return v;
#endif
}
inline V16 load16_bytes(const int8_t* p) { return {load8_bytes(p), load8_bytes(p + 8)}; }
#endif

// Lanes that are 4, 2 and 1 apart: named elements would be taken out one by one.
inline V8 swapped4(V8 v) { return __builtin_shuffle(v, I8{4, 5, 6, 7, 0, 1, 2, 3}); }
inline V8 swapped2(V8 v) { return __builtin_shuffle(v, I8{2, 3, 0, 1, 6, 7, 4, 5}); }
inline V8 swapped1(V8 v) { return __builtin_shuffle(v, I8{1, 0, 3, 2, 5, 4, 7, 6}); }

inline float sum8(V8 v) {
  v += swapped4(v);
  v += swapped2(v);
  v += swapped1(v);
  return v[0];
}

inline V8 max8(V8 a, V8 b) { return a > b ? a : b; }

inline float largest8(V8 v) {
  v = max8(v, swapped4(v));
  v = max8(v, swapped2(v));
  v = max8(v, swapped1(v));
  return v[0];
}

// exp(x) to about 2 ulp, 0 from -87 down (Cephes' polynomial on [-ln2/2, ln2/2]). NaNs stay NaNs.
inline V8 exp8(V8 x) {
  const V8 magic = splat(12582912.0F);  // 1.5 * 2^23: adding it rounds to an integer
  const V8 clamped = x > splat(88.0F) ? splat(88.0F) : x;
  const V8 safe = clamped < splat(-87.0F) ? splat(-87.0F) : clamped;
  const V8 shifted = safe * splat(1.44269504F) + magic;
  const V8 n = shifted - magic;
  const V8 r = safe - n * splat(0.693359375F) - n * splat(-2.12194440e-4F);
  V8 p = splat(1.9875691500e-4F);
  p = p * r + splat(1.3981999507e-3F);
  p = p * r + splat(8.3334519073e-3F);
  p = p * r + splat(4.1665795894e-2F);
  p = p * r + splat(1.6666665459e-1F);
  p = p * r + splat(5.0000001201e-1F);
  p = p * r * r + r + splat(1.0F);
  const I8 power = (__builtin_convertvector(n, I8) + 127) << 23;
  const V8 scaled = p * reinterpret_cast<V8>(power);
  return x <= splat(-87.0F) ? splat(0.0F) : scaled;
}

inline V8 tanh8(V8 x) { return splat(1.0F) - splat(2.0F) / (exp8(x * splat(2.0F)) + splat(1.0F)); }

inline bool any_is_no_number(V8 v) {
#if defined(__AVX2__)
  const auto w = reinterpret_cast<__m256>(v);
  return _mm256_movemask_ps(_mm256_cmp_ps(w, w, _CMP_UNORD_Q)) != 0;
#else
  for (int i = 0; i < 8; ++i)
    if (v[i] != v[i]) return true;
  return false;
#endif
}

// How a block of activations is rounded to integers of at most `most`: value = step * integer. `largest` is its largest
// value, `check` the sums of each value less itself: comparing drops what is no number, but then neither is the step.
// There are no integers for such a block: its values are to be taken for 0. So are those of a block whose largest is
// next to nothing, with no inverse that a float holds.
struct Rounding {
  static constexpr float kNothing = 1e-34F;
  float step;
  float inverse;

  Rounding(float largest, V8 check, float most = kLargestQuant)
      : step(any_is_no_number(check) ? __builtin_nanf("") : largest * (1.0F / most)),
        inverse(largest > kNothing ? most / largest : 0.0F) {}
  [[nodiscard]] bool is_none() const { return step != step; }
};

// Runs f(vector) over n values; the remainder goes through a padded vector.
template <class F>
inline void map8(size_t n, F&& f) {
  size_t i = 0;
  for (; i + 8 <= n; i += 8) f(i, size_t{8});
  if (i < n) f(i, n - i);
}

inline V8 load_some(const float* p, size_t n) {
  if (n == 8) return load8(p);
  V8 v = splat(0.0F);
  for (size_t i = 0; i < n; ++i) v[i] = p[i];
  return v;
}

inline void store_some(float* p, V8 v, size_t n) {
  if (n == 8) {
    store8(p, v);
  } else {
    for (size_t i = 0; i < n; ++i) p[i] = v[i];
  }
}
