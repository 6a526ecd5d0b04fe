// One tile of attention: a softmax over chunks of positions. Keys are transposed within a block ([D, block_size]), so
// that a vector holds positions; values are [block_size, D]. Included after vec.inl.

constexpr size_t kSpan = 16;  // positions handled together
constexpr auto kChunk = static_cast<size_t>(AttentionTile::kChunk);
#if defined(__AVX512F__)
constexpr size_t kGroup = 8;  // rows that share a load
#else
constexpr size_t kGroup = 4;
#endif

template <KvType kType>
inline V16 load_kv(const void* base, size_t at) {
  if constexpr (kType == KvType::kF32) {
    return load16(static_cast<const float*>(base) + at);
  } else if constexpr (kType == KvType::kF16) {
    return load16_half(static_cast<const uint16_t*>(base) + at);
  } else {
    return load16_bytes(static_cast<const int8_t*>(base) + at);
  }
}

inline size_t block_start(const AttentionTile& t, int64_t position) {
  return static_cast<size_t>(t.blocks[static_cast<size_t>(position) / t.block_size]) * t.block_stride;
}

inline size_t keys_at(const AttentionTile& t, int64_t position) {
  return block_start(t, position) + t.k_offset + static_cast<size_t>(position) % t.block_size;
}

inline size_t values_at(const AttentionTile& t, int64_t position) {
  return block_start(t, position) + t.v_offset + static_cast<size_t>(position) % t.block_size * t.head_dim;
}

// The scales of the tokens from `position` on, of the keys or the values that lie at `offset` in a block.
inline const float* token_scales(const AttentionTile& t, size_t offset, int64_t position) {
  const auto* part = static_cast<const uint8_t*>(t.kv) + block_start(t, position) + offset;
  const auto* scales = reinterpret_cast<const float*>(part + t.head_dim * t.block_size);
  return scales + static_cast<size_t>(position) % t.block_size;
}

// The cache level that a tile's keys and values are prefetched to. Zen 4 attends to 512 positions in 0.7 of the time
// with L2; Intel processors were measured with L1.
enum class Fetch : uint8_t { kNothing, kToFirstLevel, kToSecondLevel };

template <KvType kType, Fetch kFetch>
inline void fetch(const void* base, size_t at) {
  const char* address = static_cast<const char*>(base) + at * kv_bytes(kType);
  if constexpr (kFetch == Fetch::kToFirstLevel) __builtin_prefetch(address, 0, 3);
  if constexpr (kFetch == Fetch::kToSecondLevel) __builtin_prefetch(address, 0, 2);
}

// s[row][0..15] = q[row] . k for the 16 positions from `position` on. A head's part of a block is 2 KiB, far from that
// of the next block, so the hardware can't prefetch it. Instead, the first rows prefetch the values of this span, which
// are weighted next, and the keys of the next span.
template <KvType kType, size_t kRows, Fetch kFetch>
inline void scores(const AttentionTile& t, size_t row, int64_t position, float (*s)[kChunk], size_t column) {
  constexpr size_t kLine = 64 / kv_bytes(kType);  // elements
  const size_t keys = keys_at(t, position);
  const size_t values = values_at(t, position);
  const int64_t behind = position + static_cast<int64_t>(kSpan);
  const size_t next = behind < t.end ? keys_at(t, behind) : keys;
  const float* q = t.q + row * t.head_dim;
  V16 sum[kRows] = {};
  for (size_t d = 0; d < t.head_dim; ++d) {
    if (d * kSpan % kLine == 0) {
      fetch<kType, kFetch>(t.kv, next + d * t.block_size);
      fetch<kType, kFetch>(t.kv, values + d * kSpan);
    }
    const V16 k = load_kv<kType>(t.kv, keys + d * t.block_size);
    for (size_t r = 0; r < kRows; ++r) sum[r] += splat16(q[r * t.head_dim + d]) * k;
  }
  if constexpr (kType == KvType::kI8) {
    const V16 scale = load16(token_scales(t, t.k_offset, position));
    for (size_t r = 0; r < kRows; ++r) sum[r] = sum[r] * scale;
  }
  for (size_t r = 0; r < kRows; ++r) store16(&s[row + r][column], sum[r]);
}

// out[row] += the values of the 16 positions from `position` on, by their weights; those of a chunk's first come first.
template <KvType kType, size_t kRows>
inline void weigh(const AttentionTile& t, float* out, size_t row, int64_t position, const float (*p)[kChunk],
                  size_t column) {
  // Memory beyond the end is unwritten and may hold NaNs, and 0 * NaN is not 0.
  const auto left = static_cast<size_t>(t.end - position);
  const size_t count = left < kSpan ? left : kSpan;
  const size_t values = values_at(t, position);
  const float* scales = kType == KvType::kI8 ? token_scales(t, t.v_offset, position) : nullptr;
  const auto weight = [&](size_t r, size_t i) {
    return kType == KvType::kI8 ? p[r][column + i] * scales[i] : p[r][column + i];
  };
  for (size_t d = 0; d < t.head_dim; d += 16) {
    V16 sum[kRows] = {};
    if (column != 0)
      for (size_t r = 0; r < kRows; ++r) sum[r] = load16(out + (row + r) * t.head_dim + d);
    for (size_t i = 0; i < count; ++i) {
      const V16 v = load_kv<kType>(t.kv, values + i * t.head_dim + d);
      for (size_t r = 0; r < kRows; ++r) sum[r] += splat16(weight(row + r, i)) * v;
    }
    for (size_t r = 0; r < kRows; ++r) store16(out + (row + r) * t.head_dim + d, sum[r]);
  }
}

// Calls f(rows, first row) over the tile in groups of up to kMost rows.
template <size_t kMost, class F>
inline void by_groups(size_t rows, F&& f, size_t row = 0) {
  for (; row + kMost <= rows; row += kMost) f(std::integral_constant<size_t, kMost>(), row);
  if constexpr (kMost > 1) by_groups<kMost - 1>(rows, f, row);
}

// Converts a row of a chunk's scores to weights.
inline void soften(const AttentionTile& t, size_t row, int64_t first, size_t count, float* s, const AttentionSums& to) {
  const int64_t last = t.positions[row];
  const int64_t oldest = t.window > 0 ? last - t.window + 1 : 0;
  if (t.softcap > 0.0F)
    for (size_t i = 0; i < count; i += 8) store8(s + i, splat(t.softcap) * tanh8(load8(s + i) / splat(t.softcap)));
  // Positions of the chunk that this row sees: [from, until).
  const auto n = static_cast<int64_t>(count);
  const int64_t limit = last + 1 < t.end ? last + 1 : t.end;
  const int64_t from = oldest > first ? (oldest - first < n ? oldest - first : n) : 0;
  const int64_t until = limit - first < n ? (limit > first ? limit - first : 0) : n;
  for (int64_t i = 0; i < from; ++i) s[i] = -__builtin_inff();
  for (int64_t i = until; i < n; ++i) s[i] = -__builtin_inff();
  V8 most = splat(-1e30F);  // of a row that sees none of them
  for (size_t i = 0; i < count; i += 8) most = max8(most, load8(s + i));
  const float maximum = largest8(most);
  V8 sum = splat(0.0F);
  for (size_t i = 0; i < count; i += 8) {
    const V8 p = exp8(load8(s + i) - splat(maximum));
    sum += p;
    store8(s + i, p);
  }
  to.maximum[row] = maximum;
  to.sum[row] = sum8(sum);
}

// Never inlined: each inlined copy might round differently.
[[gnu::noinline]] void join_sums(const AttentionSums& to, const AttentionSums& of_next, size_t rows, size_t head_dim) {
  for (size_t row = 0; row < rows; ++row) {
    const float maximum = to.maximum[row] > of_next.maximum[row] ? to.maximum[row] : of_next.maximum[row];
    const V8 factors = exp8(V8{to.maximum[row] - maximum, of_next.maximum[row] - maximum});
    to.maximum[row] = maximum;
    to.sum[row] = to.sum[row] * factors[0] + of_next.sum[row] * factors[1];
    for (size_t d = row * head_dim; d < (row + 1) * head_dim; d += 8)
      store8(to.out + d, load8(to.out + d) * splat(factors[0]) + load8(of_next.out + d) * splat(factors[1]));
  }
}

// The positions [first, first + count) of a chunk, those beyond the tile's end included.
template <KvType kType>
inline void sum_chunk(const AttentionTile& t, int64_t first, size_t count, const AttentionSums& to) {
  alignas(64) float s[AttentionTile::kMaxRows][kChunk];
  by_groups<kGroup>(t.rows, [&](auto rows, size_t row) {
    auto* of_rows = row != 0     ? scores<kType, rows(), Fetch::kNothing>
                    : is_intel() ? scores<kType, rows(), Fetch::kToFirstLevel>
                                 : scores<kType, rows(), Fetch::kToSecondLevel>;
    for (size_t i = 0; i < count; i += kSpan) of_rows(t, row, first + static_cast<int64_t>(i), s, i);
  });
  for (size_t row = 0; row < t.rows; ++row) soften(t, row, first, count, s[row], to);
  by_groups<kGroup>(t.rows, [&](auto rows, size_t row) {
    for (size_t i = 0; i < count; i += kSpan)
      weigh<kType, rows()>(t, to.out, row, first + static_cast<int64_t>(i), s, i);
  });
}

template <KvType kType>
void attention_tile(const AttentionTile& t) {
  alignas(64) float out[AttentionTile::kMaxRows * AttentionTile::kMaxHeadDim];
  float maximum[AttentionTile::kMaxRows];
  float sum[AttentionTile::kMaxRows];
  const AttentionSums own{out, maximum, sum};
  AttentionSums to = t.to;
  for (int64_t first = t.begin; first < t.end;) {
    const int64_t behind = (first / t.kChunk + 1) * t.kChunk;
    const auto left = static_cast<size_t>((behind < t.end ? behind : t.end) - first);
    const bool alone = t.apart || first == t.begin;
    sum_chunk<kType>(t, first, (left + kSpan - 1) / kSpan * kSpan, alone ? to : own);
    if (!alone) join_sums(to, own, t.rows, t.head_dim);
    if (t.apart) to = {to.out + t.rows * t.head_dim, to.maximum + t.kMaxRows, to.sum + t.kMaxRows};
    first = behind;
  }
}

void attention(const AttentionTile& t) {
  if (t.type == KvType::kF32) {
    attention_tile<KvType::kF32>(t);
  } else if (t.type == KvType::kF16) {
    attention_tile<KvType::kF16>(t);
  } else {
    attention_tile<KvType::kI8>(t);
  }
}
