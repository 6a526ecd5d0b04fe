// Blocks of 32 columns of every weight format as floats. Included after vec.inl.

struct Expanded {
  V8 w[kBlock];  // column by column, 8 rows each
};

// Quant of step s, lane l in a block of `bits`.
inline int quant_at(const uint8_t* quants, unsigned bits, size_t s, size_t l) {
  if (bits == 8) return static_cast<int8_t>(quants[s * 32 + l]);
  int q = quants[s / 2 * 32 + l] >> (s % 2 * 4) & 15;
  if (bits == 5) q |= (quants[128 + l] >> s & 1) << 4;
  if (bits == 6) q |= (quants[128 + s / 4 * 32 + l] >> (s % 4 * 2) & 3) << 4;
  return q;
}
// The same where the lower bits lie elsewhere.
inline int quant_at(const uint8_t* upper, const uint8_t* low, size_t s, size_t l) {
  const int bits = (low[s / 4 * 32 + l] >> (s % 4 * 2) & 3) << 1 | (low[64 + l] >> s & 1);
  return (quant_at(upper, 5, s, l) << 3 | bits) - 128;
}

// Scale and offset of the 8 rows for sub-block `half` of block `b` in a record: value = scale * q + offset.
inline void block_scales(const FormatTraits& t, const uint8_t* record, size_t b, size_t half, V8& scale, V8& offset) {
  const V8 d = load8_half(record);
  const uint8_t* sc = record + 16 * (1 + size_t{t.has_m});
  scale = d;
  offset = splat(0.0F);
  const size_t sub = t.subs == 16 ? 2 * b + half : b;
  if (t.subs != 0) {
    V8 factors;
    for (size_t r = 0; r < 8; ++r) {
      const uint8_t byte = sc[sub * 8 + r];
      factors[r] = t.has_mn ? static_cast<float>(byte) : static_cast<float>(static_cast<int8_t>(byte));
    }
    scale = d * factors;
  }
  if (t.has_mn) {
    V8 factors;
    for (size_t r = 0; r < 8; ++r) factors[r] = static_cast<float>(sc[t.subs * 8 + sub * 8 + r]);
    offset = -(load8_half(record + 16) * factors);
  } else if (t.has_m) {
    offset = load8_half(record + 16);
  } else if (t.zero != 0) {
    offset = scale * splat(static_cast<float>(-t.zero));
  }
}

inline void expand_quants(const FormatTraits& t, const uint8_t* record, size_t b, const uint8_t* low, Expanded& out) {
  const uint8_t* quants = record + t.head_bytes() + b * t.quant_bytes();
  for (size_t half = 0; half < 2; ++half) {
    V8 scale;
    V8 offset;
    block_scales(t, record, b, half, scale, offset);
    for (size_t c = 16 * half; c < 16 * half + 16; ++c) {
      I8 q;
      for (size_t r = 0; r < 8; ++r)
        q[r] = t.low_bits != 0 ? quant_at(quants, low, c / 4, r * 4 + c % 4)
                               : quant_at(quants, t.bits, c / 4, r * 4 + c % 4);
      out.w[c] = scale * __builtin_convertvector(q, V8) + offset;
    }
  }
}

// Columns [first, first + count) of a panel, count <= 32.
inline void expand_floats(const Matrix& m, const FormatTraits& t, const uint8_t* panel, size_t first, size_t count,
                          Expanded& out) {
  const uint8_t* at = panel + first * t.record_bytes();
  for (size_t c = 0; c < count; ++c, at += t.record_bytes()) {
    if (m.format == Format::kF32) {
      __builtin_memcpy(&out.w[c], at, sizeof(V8));
    } else {
      out.w[c] = m.format == Format::kF16 ? load8_half(at) : load8_bf16(at);
    }
  }
}

// The same of every format; quants within one block.
inline void expand(const Matrix& m, const FormatTraits& t, size_t panel, size_t first, size_t count, Expanded& out) {
  const uint8_t* data = m.panel(panel);
  if (t.is_float) return expand_floats(m, t, data, first, count, out);
  const uint8_t* low = m.low_panel(panel) + first / kBlock * t.low_bytes();
  expand_quants(t, data + first / t.width * t.record_bytes(), first % t.width / kBlock, low, out);
}

inline void store_panel(const Matrix& w, size_t panel, const V8& y, float* out) {
  const size_t row = panel * kPanel;
  store_some(out + row, y, w.rows - row < kPanel ? w.rows - row : kPanel);
}
