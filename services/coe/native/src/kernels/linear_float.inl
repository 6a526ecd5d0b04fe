// Linear on float activations, every weight format: a block of 32 columns is expanded to floats, then multiplied.
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
          V8 part[4] = {};  // four chains: an addition takes four cycles
          for (size_t c = 0; c < columns; ++c) part[c % 4] += block.w[c] * splat(row[c]);
          y[i] += (part[0] + part[1]) + (part[2] + part[3]);
        }
      }
      for (size_t i = 0; i < count; ++i) store_panel(w, panel, y[i], out + (token + i) * out_stride);
    }
  }
}

void read_row(const Matrix& m, size_t row, float scale, float* out) {
  const FormatTraits t = traits(m.format);
  for (size_t first = 0; first < m.cols; first += kBlock) {
    const size_t count = m.cols - first < kBlock ? m.cols - first : kBlock;
    Expanded block;
    expand(m, t, row / kPanel, first, count, block);
    for (size_t c = 0; c < count; ++c) out[first + c] = scale * block.w[c][row % kPanel];
  }
}
