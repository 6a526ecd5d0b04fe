// The packed weight layouts (diagrams in OPS.md; written by coe.native.packing).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "base/status.h"

namespace coe {

inline constexpr size_t kPanel = 8;   // interleaved rows
inline constexpr size_t kBlock = 32;  // columns per run of quants
inline constexpr size_t kSteps = 8;   // of 4 columns in a block: lane 4r + c of a step is row r, column 4 * step + c

// kQ80Planes: kQ80 in two parts. The upper five bits of all quants, offset by 128, form a complete kQ50 matrix; the
// lower three follow it, block by block.
enum class Format : uint8_t { kF32, kF16, kBf16, kQ40, kQ41, kQ50, kQ51, kQ80, kQ80Planes, kQ4K, kQ5K, kQ6K };

// What a record of 8 rows holds: d, m (float16 a row), sc, mn (bytes a row and sub-block), quants.
struct FormatTraits {
  unsigned bits;  // of a quant; of a float in the float formats
  size_t width;   // columns of a record
  bool has_m = false;
  size_t subs = 0;  // sub-blocks with a scale of their own
  bool has_mn = false;
  int zero = 0;  // zero point: subtracted from a quant before scaling, in formats without minima
  bool is_float = false;
  unsigned low_bits = 0;  // of a quant, that lie behind the records

  [[nodiscard]] constexpr bool is_signed() const { return bits == 8; }
  [[nodiscard]] constexpr size_t quant_bytes() const { return kPanel * kBlock * (bits - low_bits) / 8; }
  // Of a block, behind the records.
  [[nodiscard]] constexpr size_t low_bytes() const { return kPanel * kBlock * low_bits / 8; }
  [[nodiscard]] constexpr size_t head_bytes() const {
    return is_float ? 0 : kPanel * (2 * (1 + size_t{has_m}) + subs * (1 + size_t{has_mn}));
  }
  [[nodiscard]] constexpr size_t record_bytes() const {
    return is_float ? kPanel * bits / 8 : head_bytes() + width / kBlock * quant_bytes();
  }
};

constexpr FormatTraits traits(Format format) {
  switch (format) {
    case Format::kF32:
      return {.bits = 32, .width = 1, .is_float = true};
    case Format::kF16:
    case Format::kBf16:
      return {.bits = 16, .width = 1, .is_float = true};
    case Format::kQ40:
      return {.bits = 4, .width = 32, .zero = 8};
    case Format::kQ41:
      return {.bits = 4, .width = 32, .has_m = true};
    case Format::kQ50:
      return {.bits = 5, .width = 32, .zero = 16};
    case Format::kQ51:
      return {.bits = 5, .width = 32, .has_m = true};
    case Format::kQ80:
      return {.bits = 8, .width = 32};
    case Format::kQ80Planes:
      return {.bits = 8, .width = 32, .low_bits = 3};
    case Format::kQ4K:
      return {.bits = 4, .width = 256, .has_m = true, .subs = 8, .has_mn = true};
    case Format::kQ5K:
      return {.bits = 5, .width = 256, .has_m = true, .subs = 8, .has_mn = true};
    case Format::kQ6K:
      return {.bits = 6, .width = 256, .subs = 16, .zero = 32};
  }
  return {};
}

// Calls f with the format as a constant.
template <class F>
inline void with_format(Format format, F&& f) {
  switch (format) {
    case Format::kF32:
      return f(std::integral_constant<Format, Format::kF32>());
    case Format::kF16:
      return f(std::integral_constant<Format, Format::kF16>());
    case Format::kBf16:
      return f(std::integral_constant<Format, Format::kBf16>());
    case Format::kQ40:
      return f(std::integral_constant<Format, Format::kQ40>());
    case Format::kQ41:
      return f(std::integral_constant<Format, Format::kQ41>());
    case Format::kQ50:
      return f(std::integral_constant<Format, Format::kQ50>());
    case Format::kQ51:
      return f(std::integral_constant<Format, Format::kQ51>());
    case Format::kQ80:
      return f(std::integral_constant<Format, Format::kQ80>());
    case Format::kQ80Planes:
      return f(std::integral_constant<Format, Format::kQ80Planes>());
    case Format::kQ4K:
      return f(std::integral_constant<Format, Format::kQ4K>());
    case Format::kQ5K:
      return f(std::integral_constant<Format, Format::kQ5K>());
    case Format::kQ6K:
      return f(std::integral_constant<Format, Format::kQ6K>());
  }
}

Status parse_format(std::string_view name, Format& out);

// One packed weight matrix: rows x cols, rows in panels of 8.
struct Matrix {
  Format format = Format::kF32;
  const uint8_t* data = nullptr;
  size_t rows = 0;
  size_t cols = 0;

  [[nodiscard]] size_t panels() const { return (rows + kPanel - 1) / kPanel; }
  [[nodiscard]] size_t panel_bytes() const { return cols / traits(format).width * traits(format).record_bytes(); }
  [[nodiscard]] size_t low_panel_bytes() const { return cols / kBlock * traits(format).low_bytes(); }
  [[nodiscard]] size_t nbytes() const { return panels() * (panel_bytes() + low_panel_bytes()); }
  [[nodiscard]] const uint8_t* panel(size_t index) const { return data + index * panel_bytes(); }
  // The lower bits of a panel, and the upper ones of all, of a format in planes.
  [[nodiscard]] const uint8_t* low_panel(size_t index) const { return panel(panels()) + index * low_panel_bytes(); }
  [[nodiscard]] Matrix upper() const { return {.format = Format::kQ50, .data = data, .rows = rows, .cols = cols}; }
  // Checks that the columns are whole records.
  [[nodiscard]] Status validate() const;
};

}  // namespace coe
