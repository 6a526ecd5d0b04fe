// Linear with 16-bit activations. Included after tiles_x86.inl.

template <class Words>
using InWords = Words;

void linear_quant(const Matrix& w, const QuantRows& x, size_t tokens, size_t begin, size_t end, float* out,
                  size_t out_stride) {
  with_format(w.format, [&](auto format) {
    if constexpr (!traits(format.value).is_float)  // float formats never get here
      linear_format<InWords, format.value>(w, x, tokens, begin, end, out, out_stride);
  });
}
