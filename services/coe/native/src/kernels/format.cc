#include "kernels/format.h"

#include <array>
#include <string>
#include <utility>

namespace coe {

Status parse_format(std::string_view name, Format& out) {
  static constexpr std::array<std::pair<std::string_view, Format>, 12> kNames{{{"f32", Format::kF32},
                                                                               {"f16", Format::kF16},
                                                                               {"bf16", Format::kBf16},
                                                                               {"q4_0", Format::kQ40},
                                                                               {"q4_1", Format::kQ41},
                                                                               {"q5_0", Format::kQ50},
                                                                               {"q5_1", Format::kQ51},
                                                                               {"q8_0", Format::kQ80},
                                                                               {"q8_0_planes", Format::kQ80Planes},
                                                                               {"q4_k", Format::kQ4K},
                                                                               {"q5_k", Format::kQ5K},
                                                                               {"q6_k", Format::kQ6K}}};
  for (const auto& [known, format] : kNames)
    if (known == name) {
      out = format;
      return {};
    }
  return invalid("unknown weight format '" + std::string(name) + "'");
}

Status Matrix::validate() const {
  constexpr size_t kMost = size_t{1} << 32;
  constexpr size_t kMostBytes = size_t{1} << 56;
  if (rows == 0 || cols == 0 || rows > kMost || cols > kMost)
    return invalid("a matrix needs 1 to 2^32 rows and columns");
  if (cols % traits(format).width != 0)
    return invalid(std::to_string(cols) + " columns are not whole blocks of " + std::to_string(traits(format).width));
  const size_t of_panel = panel_bytes() + low_panel_bytes();
  if (of_panel > kMostBytes / panels()) return invalid("a matrix has at most 2^56 bytes");
  return {};
}

}  // namespace coe
