// A random packed matrix and the floats that it means, decoded here by the
// rules of OPS.md, bit by bit.
#pragma once

#include <bit>
#include <cmath>

#include "kernels/format.h"
#include "support.h"

namespace coe::test {

inline float half_bits(const uint8_t* p) {
  const unsigned bits = p[0] | p[1] << 8;
  const int exponent = static_cast<int>(bits >> 10 & 31);
  const auto fraction = static_cast<float>(bits & 1023);
  const float value = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024.0F + fraction, exponent - 25);
  return (bits & 0x8000U) != 0 ? -value : value;
}

struct Packed {
  std::vector<uint8_t> bytes;
  Matrix matrix;
  std::vector<float> values;  // [rows, cols]
};

inline int packed_quant(const uint8_t* quants, unsigned bits, size_t row, size_t column) {
  const size_t step = column / 4;
  const size_t lane = 4 * row + column % 4;
  if (bits == 8) return static_cast<int8_t>(quants[32 * step + lane]);
  int q = step % 2 == 0 ? quants[32 * (step / 2) + lane] & 15 : quants[32 * (step / 2) + lane] >> 4;
  if (bits == 5) q += (quants[128 + lane] >> step & 1) * 16;
  if (bits == 6) q += (quants[128 + 32 * (step / 4) + lane] >> (2 * (step % 4)) & 3) * 16;
  return q;
}

inline int plane_quant(const Matrix& m, const uint8_t* upper, size_t row, size_t column) {
  const size_t panel_bytes = m.cols / 32 * 96;
  const uint8_t* low = m.data + m.panels() * m.cols / 32 * 176 + row / 8 * panel_bytes + column / 32 * 96;
  const size_t step = column % 32 / 4;
  const size_t lane = 4 * (row % 8) + column % 4;
  const int bits = (low[32 * (step / 4) + lane] >> (2 * (step % 4)) & 3) * 2 + (low[64 + lane] >> step & 1);
  return 8 * packed_quant(upper, 5, row % 8, column % 32) + bits - 128;
}

inline float packed_value(const Matrix& m, size_t row, size_t column) {
  const FormatTraits t = traits(m.format);
  const uint8_t* record = m.panel(row / 8) + column / t.width * t.record_bytes();
  const size_t r = row % 8;
  if (m.format == Format::kF32) return reinterpret_cast<const float*>(record)[r];
  if (m.format == Format::kF16) return half_bits(record + 2 * r);
  if (m.format == Format::kBf16) {
    const uint32_t bits = static_cast<uint32_t>(record[2 * r] | record[2 * r + 1] << 8) << 16;
    return std::bit_cast<float>(bits);
  }
  const size_t inner = column % t.width;
  const uint8_t* quants = record + t.head_bytes() + inner / 32 * t.quant_bytes();
  const auto q = static_cast<float>(m.format == Format::kQ80Planes ? plane_quant(m, quants, row, column)
                                                                   : packed_quant(quants, t.bits, r, inner % 32));
  const float d = half_bits(record + 2 * r);
  const float m0 = t.has_m ? half_bits(record + 16 + 2 * r) : 0.0F;
  if (t.subs == 0) return t.has_m ? d * q + m0 : d * (q - static_cast<float>(t.zero));
  const uint8_t* sc = record + 16 * (t.has_m ? 2 : 1);
  const size_t sub = inner / (t.width / t.subs);
  if (!t.has_mn) return d * static_cast<float>(static_cast<int8_t>(sc[8 * sub + r])) * (q - static_cast<float>(t.zero));
  return d * static_cast<float>(sc[8 * sub + r]) * q - m0 * static_cast<float>(sc[8 * (t.subs + sub) + r]);
}

inline Packed random_packed(Format format, size_t rows, size_t cols, unsigned seed) {
  const FormatTraits t = traits(format);
  Packed packed;
  packed.matrix = {format, nullptr, rows, cols};
  std::mt19937 engine(seed);
  packed.bytes.resize(packed.matrix.nbytes());
  for (auto& byte : packed.bytes) byte = static_cast<uint8_t>(engine());
  packed.matrix.data = packed.bytes.data();
  // Scales of a usual size: exponents near 2^-6, any sign (but in planes) and fraction.
  const size_t halves = t.is_float ? (t.bits == 16 ? t.record_bytes() / 2 : 0) : 8 * (t.has_m ? 2 : 1);
  const size_t records = packed.matrix.panels() * packed.matrix.panel_bytes();
  for (size_t at = 0; at + t.record_bytes() <= records; at += t.record_bytes())
    for (size_t i = 0; i < halves; ++i) {
      uint8_t& high = packed.bytes[at + 2 * i + 1];
      high = static_cast<uint8_t>(format == Format::kBf16 ? (high & 0x80U) | 0x3cU
                                                          : (high & (t.low_bits != 0 ? 3U : 0x83U)) | 9U << 2);
    }
  if (format == Format::kF32)
    for (size_t at = 3; at < packed.bytes.size(); at += 4) packed.bytes[at] = (packed.bytes[at] & 0x80U) | 0x3cU;
  for (size_t row = 0; row < rows; ++row)
    for (size_t column = 0; column < cols; ++column) packed.values.push_back(packed_value(packed.matrix, row, column));
  return packed;
}

}  // namespace coe::test
