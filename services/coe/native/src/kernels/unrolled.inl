// Loops over constants.

#define COE_INLINE __attribute__((always_inline))

// f(0) ... f(kCount - 1), written out: registers can't be indexed.
template <size_t kCount, class F>
[[gnu::always_inline]] inline void unrolled(F&& f) {
  [&]<size_t... kIndex>(std::index_sequence<kIndex...>)
      COE_INLINE { (f(std::integral_constant<size_t, kIndex>()), ...); }(std::make_index_sequence<kCount>());
}

// Calls f with the number of tokens, at most kMost, as a constant.
template <size_t kMost, class F>
inline void with_tokens(size_t tokens, F&& f) {
  if constexpr (kMost > 1)
    if (tokens < kMost) return with_tokens<kMost - 1>(tokens, f);
  f(std::integral_constant<size_t, kMost>());
}
