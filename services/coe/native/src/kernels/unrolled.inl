// Loops over constants.

#define COE_INLINE __attribute__((always_inline))

// f(0) ... f(kCount - 1), written out: registers can't be indexed.
template <size_t kCount, class F>
[[gnu::always_inline]] inline void unrolled(F&& f) {
  [&]<size_t... kIndex>(std::index_sequence<kIndex...>)
      COE_INLINE { (f(std::integral_constant<size_t, kIndex>()), ...); }(std::make_index_sequence<kCount>());
}

// Calls f with the number of tokens, from kFewest to kMost, as a constant.
template <size_t kMost, size_t kFewest = 1, class F>
inline void with_tokens(size_t tokens, F&& f) {
  if constexpr (kMost > kFewest)
    if (tokens < kMost) return with_tokens<kMost - 1, kFewest>(tokens, f);
  f(std::integral_constant<size_t, kMost>());
}
