// Quants of the packed formats as 16-bit lanes. Included after expand.inl.
//
// A step is 4 columns of 8 rows, a byte each. Half of a step is one register of 16-bit lanes: columns 0 and 2 of every
// row, or 1 and 3. Activations lie in that order (QuantRows), so a multiply-and-add of pairs makes one sum a row.

typedef uint16_t Lanes8 __attribute__((vector_size(32)));  // 2 columns of 8 rows
constexpr int kHalfSteps = 16;                             // of a block

// The quants of one panel, 32 bytes at a time.
struct PanelQuants {
  const uint8_t* quants;
  Lanes8 operator[](int i) const {
    Lanes8 v;
    __builtin_memcpy(&v, quants + 32 * i, sizeof v);
    return v;
  }
};

// The high bits of steps 2i and 2i + 1 in formats of 5 and 6 bits, moved to bit 4 of each byte.
template <unsigned kBits, class Quants, class Lanes>
inline void high_bits(const Quants& quants, int i, Lanes& even, Lanes& odd) {
  if constexpr (kBits == 5) {
    const Lanes high = quants[4];  // bit s of a byte belongs to step s
    even = (i < 2 ? high << (4 - 2 * i) : high >> (2 * i - 4)) & 0x1010;
    odd = (i < 2 ? high << (3 - 2 * i) : high >> (2 * i - 3)) & 0x1010;
  } else {
    const Lanes high = quants[4 + i / 2];  // bits 2 (s % 4) and up belong to step s
    even = (i % 2 == 0 ? high << 4 : high) & 0x3030;
    odd = (i % 2 == 0 ? high << 2 : high >> 2) & 0x3030;
  }
}

// Bytes to 16 bits with their sign.
template <class Lanes>
inline Lanes low_signed(Lanes bytes) {
  typedef int16_t Signed __attribute__((vector_size(sizeof(Lanes))));
  return reinterpret_cast<Lanes>(reinterpret_cast<Signed>(bytes << 8) >> 8);
}
template <class Lanes>
inline Lanes high_signed(Lanes bytes) {
  typedef int16_t Signed __attribute__((vector_size(sizeof(Lanes))));
  return reinterpret_cast<Lanes>(reinterpret_cast<Signed>(bytes) >> 8);
}

// Steps 2i and 2i + 1, i < 4, a byte a quant.
template <unsigned kBits, class Quants, class Lanes>
inline void unpack_steps(const Quants& quants, int i, Lanes* step) {
  if constexpr (kBits == 8) {
    for (int s = 0; s < 2; ++s) step[s] = quants[2 * i + s];
  } else {
    const Lanes both = quants[i];
    step[0] = both & 0x0f0f;
    step[1] = both >> 4 & 0x0f0f;
    if constexpr (kBits > 4) {
      Lanes high[2];
      high_bits<kBits>(quants, i, high[0], high[1]);
      for (int s = 0; s < 2; ++s) step[s] |= high[s];
    }
  }
}

// The four half steps of steps 2i and 2i + 1, i < 4.
template <unsigned kBits, class Quants, class Lanes>
inline void unpack(const Quants& quants, int i, Lanes* half) {
  if constexpr (kBits == 4) {
    const Lanes both = quants[i];
    half[0] = both & 15;
    half[1] = both >> 8 & 15;
    half[2] = both >> 4 & 15;
    half[3] = both >> 12;
  } else {
    Lanes step[2];
    unpack_steps<kBits>(quants, i, step);
    for (int s = 0; s < 2; ++s) {
      half[2 * s] = kBits == 8 ? low_signed(step[s]) : step[s] & 255;
      half[2 * s + 1] = kBits == 8 ? high_signed(step[s]) : step[s] >> 8;
    }
  }
}

// The same with so many columns in a register: two, or four as bytes without a sign, of which those that had one count
// from -kSignBit.
constexpr float kSignBit = 128.0F;
template <size_t kColumns, unsigned kBits, class Quants, class Lanes>
inline void unpack_columns(const Quants& quants, int i, Lanes* part) {
  if constexpr (kColumns == 2) {
    unpack<kBits>(quants, i, part);
  } else {
    unpack_steps<kBits>(quants, i, part);
    if constexpr (kBits == 8)
      for (int s = 0; s < 2; ++s) part[s] ^= 0x8080;
  }
}

template <Format kFormat>
inline constexpr bool kHasOffset = !traits(kFormat).is_signed();

// Where the lower bits of a block are, in a format in planes: those of a register's second panel lie `distance` behind.
struct LowBlock {
  const uint8_t* bits = nullptr;
  size_t distance = 0;
};

template <Format kFormat>
inline LowBlock low_block(const Matrix& w, size_t panel, size_t b, bool both) {
  constexpr FormatTraits t = traits(kFormat);
  if constexpr (t.low_bits == 0) {
    return {};
  } else {
    return {w.low_panel(panel) + b * t.low_bytes(), both ? w.low_panel_bytes() : 0};
  }
}

// one where the mask's bits are set (kNot: its complement), else other.
template <bool kNot = false, class Lanes>
inline Lanes select(uint16_t mask, Lanes one, Lanes other) {
#if defined(__AVX512VL__)
  constexpr int kSelect = kNot ? 0x3a : 0xca;
  if constexpr (sizeof(Lanes) == 64) {
    return reinterpret_cast<Lanes>(_mm512_ternarylogic_epi32(_mm512_set1_epi16(static_cast<int16_t>(mask)),
                                                             reinterpret_cast<__m512i>(one),
                                                             reinterpret_cast<__m512i>(other), kSelect));
  } else {
    return reinterpret_cast<Lanes>(_mm256_ternarylogic_epi32(_mm256_set1_epi16(static_cast<int16_t>(mask)),
                                                             reinterpret_cast<__m256i>(one),
                                                             reinterpret_cast<__m256i>(other), kSelect));
  }
#else
  return ((kNot ? ~one : one) & mask) | (other & static_cast<uint16_t>(~mask));
#endif
}

// The steps of a block in planes, joined: every part is moved to its place in the byte, and each bit taken from one.
template <class Quants>
struct JoinedQuants {
  Quants upper;
  Quants low;
  auto operator[](int s) const {
    const auto nibbles = s % 2 == 0 ? upper[s / 2] << 3 : upper[s / 2] >> 1;  // bits 3 to 6
    const auto fifth = upper[4] << (7 - s);                                   // bit 7; the sign, but for -128
    const int place = 2 * (s % 4) - 1;
    const auto middle = place < 0 ? low[s / 4] << 1 : low[s / 4] >> place;  // bits 1 and 2
    const auto first = low[2] >> s;                                         // bit 0
    auto q = select(0x0606, middle, first);
    q = select(0x7878, nibbles, q);
    return select<true>(0x8080, fifth, q);
  }
};

// The quants of block `in` of a record.
template <class Reg, Format kFormat>
inline auto block_quants(const uint8_t* record, size_t in, size_t distance, const LowBlock& low) {
  constexpr FormatTraits t = traits(kFormat);
  const auto quants = Reg::quants(record + t.head_bytes() + in * t.quant_bytes(), distance);
  if constexpr (t.low_bits == 0) {
    return quants;
  } else {
    return JoinedQuants<decltype(quants)>{quants, Reg::quants(low.bits, low.distance)};
  }
}

// A run of 16 columns has its own scale in some formats.
template <Format kFormat>
inline constexpr size_t kRuns = traits(kFormat).subs == 16 ? 2 : 1;

// d and m of a record's rows, for all its sub-blocks; m is negated in formats that subtract it.
template <class Reg>
struct Head {
  typename Reg::Floats d = {};
  typename Reg::Floats m = {};
};

template <class Reg, Format kFormat>
inline Head<Reg> head_at(const uint8_t* record, size_t panel_bytes) {
  constexpr FormatTraits t = traits(kFormat);
  Head<Reg> head{Reg::halves(record, panel_bytes)};
  if constexpr (t.has_m) head.m = Reg::halves(record + 16, panel_bytes);
  if constexpr (t.has_mn) head.m = -head.m;
  return head;
}

// value = scale * q + offset for the rows of sub-block `sub` of a record. Formats without an offset leave it unchanged.
template <class Reg, Format kFormat>
inline void scales_at(const Head<Reg>& head, const uint8_t* record, size_t panel_bytes, size_t sub,
                      typename Reg::Floats& scale, typename Reg::Floats& offset) {
  constexpr FormatTraits t = traits(kFormat);
  const uint8_t* sc = record + 16 * (1 + size_t{t.has_m}) + sub * kPanel;
  scale = head.d;
  if constexpr (t.subs != 0) scale *= Reg::template bytes<!t.has_mn>(sc, panel_bytes);
  if constexpr (t.has_mn) {
    offset = head.m * Reg::template bytes<false>(sc + t.subs * kPanel, panel_bytes);
  } else if constexpr (t.has_m) {
    offset = head.m;
  } else if constexpr (t.zero != 0) {
    offset = scale * Reg::splat_all(static_cast<float>(-t.zero));
  }
}

// Neighbouring activations: two, or four bytes.
inline int32_t word_at(const void* q) {
  int32_t word;
  __builtin_memcpy(&word, q, sizeof word);
  return word;
}
