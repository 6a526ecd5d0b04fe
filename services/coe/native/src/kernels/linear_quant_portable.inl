// Linear with integer activations, without vector instructions: the reference that vector kernels are tested against.
// Included after expand.inl.

template <class Integer>
void linear_integers(const Matrix& w, const BlockRows<Integer>& x, size_t tokens, size_t begin, size_t end, float* out,
                     size_t out_stride) {
  const FormatTraits t = traits(w.format);
  for (size_t panel = begin; panel < end; ++panel) {
    for (size_t token = 0; token < tokens; ++token) {
      const BlockRows<Integer> row = x.from(token);
      V8 y = splat(0.0F);
      for (size_t b = 0; b < w.cols / kBlock; ++b) {
        const size_t in_record = b % (t.width / kBlock);
        const uint8_t* record = w.panel(panel) + b / (t.width / kBlock) * t.record_bytes();
        const uint8_t* quants = record + t.head_bytes() + in_record * t.quant_bytes();
        const uint8_t* low = w.low_panel(panel) + b * t.low_bytes();
        for (size_t half = 0; half < 2; ++half) {
          V8 scale;
          V8 offset;
          block_scales(t, record, in_record, half, scale, offset);
          for (size_t r = 0; r < kPanel; ++r) {
            int32_t dot = 0;
            for (size_t c = 16 * half; c < 16 * half + 16; ++c) {
              const size_t lane = r * 4 + c % 4;
              const int q =
                  t.low_bits != 0 ? quant_at(quants, low, c / 4, lane) : quant_at(quants, t.bits, c / 4, lane);
              dot += q * row.q[sizeof(Integer) == 1 ? b * kBlock + c : lane_of(b * kBlock + c)];
            }
            y[r] += scale[r] * row.scale[b] * static_cast<float>(dot) + offset[r] * row.sum16[2 * b + half];
          }
        }
      }
      store_panel(w, panel, y, out + token * out_stride);
    }
  }
}

void linear_quant(const Matrix& w, const QuantRows& x, size_t tokens, size_t begin, size_t end, float* out,
                  size_t out_stride) {
  linear_integers(w, x, tokens, begin, end, out, out_stride);
}

void linear_bytes(const Matrix& w, const ByteRows& x, size_t tokens, size_t begin, size_t end, float* out,
                  size_t out_stride) {
  linear_integers(w, x, tokens, begin, end, out, out_stride);
}
