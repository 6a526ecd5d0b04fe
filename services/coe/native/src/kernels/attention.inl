// One tile of attention, online softmax over chunks of positions. Keys lie transposed within a block ([D, block_size]),
// so that a vector holds positions; values lie [block_size, D]. Included after vec.inl.

constexpr size_t kSpan = 16;    // positions handled together
constexpr size_t kChunk = 128;  // positions between two updates of the running maximum
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

// Where a tile has its keys and values fetched to. Zen 4 attends to 512 positions in 0.7 of the time when it is the
// second level; Intel's processors were measured with the first.
enum class Fetch : uint8_t { kNothing, kToFirstLevel, kToSecondLevel };

template <KvType kType, Fetch kFetch>
inline void fetch(const void* base, size_t at) {
  const char* address = static_cast<const char*>(base) + at * kv_bytes(kType);
  if constexpr (kFetch == Fetch::kToFirstLevel) __builtin_prefetch(address, 0, 3);
  if constexpr (kFetch == Fetch::kToSecondLevel) __builtin_prefetch(address, 0, 2);
}

// s[row][0..15] = q[row] . k for the 16 positions from `position` on. A head's part of a block is 2 KiB, far from that
// of the next block: the processor can't foresee it. So the first rows fetch the values of this span, which are weighed
// next, and the keys of the span behind it.
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

template <KvType kType, size_t kRows>
inline void weigh(const AttentionTile& t, size_t row, int64_t position, const float (*p)[kChunk], size_t column) {
  // Beyond the end nothing has been written yet, and 0 * NaN is not 0.
  const auto left = static_cast<size_t>(t.end - position);
  const size_t count = left < kSpan ? left : kSpan;
  const size_t values = values_at(t, position);
  const float* scales = kType == KvType::kI8 ? token_scales(t, t.v_offset, position) : nullptr;
  const auto weight = [&](size_t r, size_t i) {
    return kType == KvType::kI8 ? p[r][column + i] * scales[i] : p[r][column + i];
  };
  for (size_t d = 0; d < t.head_dim; d += 16) {
    V16 sum[kRows];
    for (size_t r = 0; r < kRows; ++r) sum[r] = load16(t.out + (row + r) * t.head_dim + d);
    for (size_t i = 0; i < count; ++i) {
      const V16 v = load_kv<kType>(t.kv, values + i * t.head_dim + d);
      for (size_t r = 0; r < kRows; ++r) sum[r] += splat16(weight(row + r, i)) * v;
    }
    for (size_t r = 0; r < kRows; ++r) store16(t.out + (row + r) * t.head_dim + d, sum[r]);
  }
}

// Calls f(rows, first row) over the tile in groups of up to kMost rows.
template <size_t kMost, class F>
inline void by_groups(size_t rows, F&& f, size_t row = 0) {
  for (; row + kMost <= rows; row += kMost) f(std::integral_constant<size_t, kMost>(), row);
  if constexpr (kMost > 1) by_groups<kMost - 1>(rows, f, row);
}

// Turns a row of scores into weights against the running maximum; returns the factor for what was summed before.
inline float soften(const AttentionTile& t, size_t row, int64_t first, size_t count, float* s) {
  const int64_t last = t.positions[row];
  const int64_t oldest = t.window > 0 ? last - t.window + 1 : 0;
  if (t.softcap > 0.0F)
    for (size_t i = 0; i < count; i += 8) store8(s + i, splat(t.softcap) * tanh8(load8(s + i) / splat(t.softcap)));
  // Positions of the chunk that this row sees: [from, to).
  const auto n = static_cast<int64_t>(count);
  const int64_t limit = last + 1 < t.end ? last + 1 : t.end;
  const int64_t from = oldest > first ? (oldest - first < n ? oldest - first : n) : 0;
  const int64_t to = limit - first < n ? (limit > first ? limit - first : 0) : n;
  for (int64_t i = 0; i < from; ++i) s[i] = -__builtin_inff();
  for (int64_t i = to; i < n; ++i) s[i] = -__builtin_inff();
  V8 most = splat(t.maximum[row]);
  for (size_t i = 0; i < count; i += 8) most = max8(most, load8(s + i));
  const float maximum = largest8(most);
  const float factor = exp8(splat(t.maximum[row] - maximum))[0];
  V8 sum = splat(0.0F);
  for (size_t i = 0; i < count; i += 8) {
    const V8 p = exp8(load8(s + i) - splat(maximum));
    sum += p;
    store8(s + i, p);
  }
  t.maximum[row] = maximum;
  t.sum[row] = t.sum[row] * factor + sum8(sum);
  return factor;
}

template <KvType kType>
void attention_tile(const AttentionTile& t) {
  alignas(64) float s[AttentionTile::kMaxRows][kChunk];
  for (size_t row = 0; row < t.rows; ++row) {
    t.maximum[row] = -1e30F;
    t.sum[row] = 0.0F;
    __builtin_memset(t.out + row * t.head_dim, 0, t.head_dim * sizeof(float));
  }
  for (int64_t first = t.begin; first < t.end; first += static_cast<int64_t>(kChunk)) {
    const auto left = static_cast<size_t>(t.end - first);
    const size_t count = left < kChunk ? (left + kSpan - 1) / kSpan * kSpan : kChunk;
    by_groups<kGroup>(t.rows, [&](auto rows, size_t row) {
      auto* of_rows = row != 0     ? scores<kType, rows(), Fetch::kNothing>
                      : is_intel() ? scores<kType, rows(), Fetch::kToFirstLevel>
                                   : scores<kType, rows(), Fetch::kToSecondLevel>;
      for (size_t i = 0; i < count; i += kSpan) of_rows(t, row, first + static_cast<int64_t>(i), s, i);
    });
    for (size_t row = 0; row < t.rows; ++row) {
      const float factor = soften(t, row, first, count, s[row]);
      if (factor != 1.0F)
        for (size_t d = 0; d < t.head_dim; d += 8)
          store8(t.out + row * t.head_dim + d, load8(t.out + row * t.head_dim + d) * splat(factor));
    }
    by_groups<kGroup>(t.rows, [&](auto rows, size_t row) {
      for (size_t i = 0; i < count; i += kSpan) weigh<kType, rows()>(t, row, first + static_cast<int64_t>(i), s, i);
    });
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
