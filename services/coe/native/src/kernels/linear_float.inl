// Linear with float activations, for every weight format: expands a block of 32 columns to floats, then multiplies.
// Included after expand.inl.

void linear_float(const Matrix& w, const float* x, size_t tokens, size_t begin, size_t end, float* out,
                  size_t out_stride) {
  constexpr size_t kTile = 8;
  const FormatTraits t = traits(w.format);
  for (size_t panel = begin; panel < end; ++panel) {
    for (size_t token = 0; token < tokens; token += kTile) {
      const size_t count = tokens - token < kTile ? tokens - token : kTile;
      V8 y[kTile] = {};
      for (size_t first = 0; first < w.cols; first += kBlock) {
        const size_t columns = w.cols - first < kBlock ? w.cols - first : kBlock;
        Expanded block;
        expand(w, t, panel, first, columns, block);
        for (size_t i = 0; i < count; ++i) {
          const float* row = x + (token + i) * w.cols + first;
          V8 part[4] = {};  // four chains: an addition has a latency of four cycles
          for (size_t c = 0; c < columns; ++c) part[c % 4] += block.w[c] * splat(row[c]);
          y[i] += (part[0] + part[1]) + (part[2] + part[3]);
        }
      }
      for (size_t i = 0; i < count; ++i) store_panel(w, panel, y[i], out + (token + i) * out_stride);
    }
  }
}

// Block `b` of a record's columns, of one row.
inline void read_quants(const FormatTraits& t, const uint8_t* record, size_t b, const uint8_t* low, size_t row,
                        float factor, float* out) {
  const uint8_t* quants = record + t.head_bytes() + b * t.quant_bytes();
  for (size_t half = 0; half < 2; ++half) {
    V8 scale;
    V8 offset;
    block_scales(t, record, b, half, scale, offset);
    for (size_t c = 16 * half; c < 16 * half + 16; ++c) {
      const size_t lane = row * 4 + c % 4;
      const int q = t.low_bits != 0 ? quant_at(quants, low, c / 4, lane) : quant_at(quants, t.bits, c / 4, lane);
      out[c] = factor * (scale[row] * static_cast<float>(q) + offset[row]);
    }
  }
}

void read_row(const Matrix& m, size_t row, float scale, float* out) {
  const FormatTraits t = traits(m.format);
  const uint8_t* panel = m.panel(row / kPanel);
  const size_t in_panel = row % kPanel;
  for (size_t first = 0; first < m.cols; first += kBlock) {
    if (!t.is_float) {
      const uint8_t* low = m.low_panel(row / kPanel) + first / kBlock * t.low_bytes();
      read_quants(t, panel + first / t.width * t.record_bytes(), first % t.width / kBlock, low, in_panel, scale,
                  out + first);
      continue;
    }
    const size_t count = m.cols - first < kBlock ? m.cols - first : kBlock;
    Expanded block;
    expand_floats(m, t, panel, first, count, block);
    for (size_t c = 0; c < count; ++c) out[first + c] = scale * block.w[c][in_panel];
  }
}
