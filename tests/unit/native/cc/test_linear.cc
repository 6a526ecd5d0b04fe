#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/linear.h"
#include "packed.h"

namespace coe::test {
namespace {

constexpr Format kFormats[] = {Format::kF32,       Format::kF16, Format::kBf16, Format::kQ40,
                               Format::kQ41,       Format::kQ50, Format::kQ51,  Format::kQ80,
                               Format::kQ80Planes, Format::kQ4K, Format::kQ5K,  Format::kQ6K};

template <class Integer>
struct Quantised {
  std::vector<Integer> q;
  std::vector<float> scale, sum16, sum32;
  BlockRows<Integer> rows{};

  // What was rounded, in the columns' order.
  [[nodiscard]] std::vector<float> values() const {
    std::vector<float> out(q.size());
    for (size_t i = 0; i < out.size(); ++i)
      out[i] = static_cast<float>(q[sizeof(Integer) == 1 ? i : lane_of(i)]) * scale[i / 32];
    return out;
  }
};

// By the rules of table.h, so that the kernels' own quantisation doesn't
// matter.
template <class Integer = int16_t>
Quantised<Integer> quantise(const std::vector<float>& x, size_t tokens, size_t cols, Isa isa) {
  Quantised<Integer> out;
  out.q.resize(tokens * cols);
  out.scale.resize(tokens * cols / 32);
  out.sum16.resize(tokens * cols / 16);
  out.sum32.resize(tokens * cols / 32);
  out.rows = {out.q.data(), out.scale.data(), out.sum16.data(), out.sum32.data(), cols};
  for (size_t t = 0; t < tokens; ++t) {
    if constexpr (sizeof(Integer) == 1) {
      kernels(isa).bytes(x.data() + t * cols, out.rows.from(t));
    } else {
      kernels(isa).quantise(x.data() + t * cols, out.rows.from(t));
    }
  }
  return out;
}

// Sum over the columns of |w x|: what rounding errors are measured against.
double magnitude(const Packed& w, const std::vector<float>& x, size_t t, size_t row) {
  double sum = 0;
  for (size_t c = 0; c < w.matrix.cols; ++c)
    sum += std::fabs(static_cast<double>(w.values[row * w.matrix.cols + c]) *
                     static_cast<double>(x[t * w.matrix.cols + c]));
  return sum;
}

double dot(const Packed& w, const std::vector<float>& x, size_t t, size_t row) {
  double sum = 0;
  for (size_t c = 0; c < w.matrix.cols; ++c)
    sum += static_cast<double>(w.values[row * w.matrix.cols + c]) * static_cast<double>(x[t * w.matrix.cols + c]);
  return sum;
}

size_t columns(Format format) { return traits(format).width == 256 ? 768 : 544; }  // more than a chunk

}  // namespace

class Kernel : public testing::TestWithParam<Format> {};

TEST_P(Kernel, FloatActivationsAreExactOnEveryInstructionSet) {
  const size_t rows = 19;
  const size_t cols = traits(GetParam()).is_float ? 50 : columns(GetParam());
  const Packed w = random_packed(GetParam(), rows, cols, 3);
  for (const Isa isa : instruction_sets())
    for (const size_t tokens : {1, 3, 9}) {
      const auto x = random_floats(tokens * cols, 5);
      std::vector<float> out(tokens * rows);
      kernels(isa).linear_float(w.matrix, x.data(), tokens, 0, w.matrix.panels(), out.data(), rows);
      for (size_t t = 0; t < tokens; ++t)
        for (size_t r = 0; r < rows; ++r)
          ASSERT_NEAR(out[t * rows + r], dot(w, x, t, r), 2e-6 * magnitude(w, x, t, r) + 1e-12);
    }
}

TEST_P(Kernel, QuantisedActivationsAgreeWithTheirIntegersOnEveryInstructionSet) {
  if (traits(GetParam()).is_float) GTEST_SKIP() << "float formats have no such kernel";
  const size_t rows = 29;
  const size_t cols = columns(GetParam());
  const Packed w = random_packed(GetParam(), rows, cols, 7);
  for (const Isa isa : instruction_sets())
    for (const size_t tokens : {1, 2, 3, 4, 5, 8, 15, 16, 17, 131}) {
      const auto x = quantise(random_floats(tokens * cols, 11, 3.0F), tokens, cols, isa);
      const std::vector<float> rounded = x.values();
      std::vector<float> out(tokens * rows, -1.0F);
      kernels(isa).linear_quant(w.matrix, x.rows, tokens, 0, w.matrix.panels(), out.data(), rows);
      for (size_t t = 0; t < tokens; ++t)
        for (size_t r = 0; r < rows; ++r)
          ASSERT_NEAR(out[t * rows + r], dot(w, rounded, t, r), 8e-6 * magnitude(w, rounded, t, r) + 1e-9)
              << "isa " << static_cast<int>(isa) << " tokens " << tokens << " row " << r;
    }
}

TEST_P(Kernel, BytesAgreeWithTheirIntegersWhateverElseIsMultiplied) {
  if (traits(GetParam()).is_float) GTEST_SKIP() << "float formats have no such kernel";
  const size_t rows = 29;
  const size_t cols = columns(GetParam());
  const Packed w = random_packed(GetParam(), rows, cols, 7);
  const size_t panels = w.matrix.panels();
  for (const Isa isa : instruction_sets()) {
    if (traits(GetParam()).bits > kernels(isa).byte_bits) continue;
    const size_t most = 19;
    const auto x = quantise<int8_t>(random_floats(most * cols, 11, 3.0F), most, cols, isa);
    const std::vector<float> rounded = x.values();
    std::vector<float> alone(most * rows);
    for (size_t t = 0; t < most; ++t)
      kernels(isa).linear_bytes(w.matrix, x.rows.from(t), 1, 0, panels, alone.data() + t * rows, rows);
    for (size_t t = 0; t < most; ++t)
      for (size_t r = 0; r < rows; ++r)
        ASSERT_NEAR(alone[t * rows + r], dot(w, rounded, t, r), 8e-6 * magnitude(w, rounded, t, r) + 1e-9)
            << "isa " << static_cast<int>(isa) << " token " << t << " row " << r;
    for (const size_t tokens : {2, 3, 4, 5, 8, 9, 16, 19}) {
      std::vector<float> out(tokens * rows, -1.0F);
      kernels(isa).linear_bytes(w.matrix, x.rows, tokens, 0, panels, out.data(), rows);
      ASSERT_TRUE(std::equal(out.begin(), out.end(), alone.begin())) << "tokens " << tokens;
    }
  }
}

TEST_P(Kernel, TheLargestIntegersDoNotOverflow) {
  if (traits(GetParam()).is_float) GTEST_SKIP() << "float formats have no such kernel";
  const size_t cols = columns(GetParam());
  Packed w = random_packed(GetParam(), 8, cols, 7);
  const FormatTraits t = traits(GetParam());
  for (size_t at = 0; at < w.matrix.panel_bytes(); at += t.record_bytes())
    for (size_t i = t.head_bytes(); i < t.record_bytes(); ++i)
      w.bytes[at + i] = t.low_bits != 0 ? 0 : t.bits == 8 ? 0x80 : 0xff;
  for (size_t r = 0; r < 8; ++r)
    for (size_t c = 0; c < cols; ++c) w.values[r * cols + c] = packed_value(w.matrix, r, c);
  for (const Isa isa : instruction_sets())
    for (const float sign : {1.0F, -1.0F}) {
      const std::vector<float> x(cols, sign);
      const auto q = quantise(x, 1, cols, isa);
      std::vector<float> out(8);
      kernels(isa).linear_quant(w.matrix, q.rows, 1, 0, 1, out.data(), 8);
      for (size_t r = 0; r < 8; ++r) ASSERT_NEAR(out[r], dot(w, x, 0, r), 1e-5 * magnitude(w, x, 0, r));
      if (t.bits > kernels(isa).byte_bits) continue;
      const auto bytes = quantise<int8_t>(x, 1, cols, isa);
      kernels(isa).linear_bytes(w.matrix, bytes.rows, 1, 0, 1, out.data(), 8);
      for (size_t r = 0; r < 8; ++r) ASSERT_NEAR(out[r], dot(w, x, 0, r), 1e-5 * magnitude(w, x, 0, r));
    }
}

TEST_P(Kernel, DigitsGiveTheBitsOfWholeIntegers) {
  if (traits(GetParam()).is_float) GTEST_SKIP() << "float formats have no such kernel";
  const size_t rows = 53;  // not whole tiles, and an odd number of panels
  const size_t cols = GetParam() == Format::kQ40 ? 1536 : columns(GetParam());  // more than a chunk of theirs
  const Packed w = random_packed(GetParam(), rows, cols, 3);
  for (const Isa isa : instruction_sets()) {
    if (kernels(isa).linear_digits == nullptr) continue;
    for (const size_t tokens : {1, 2, 5, 6, 7, 8, 9, 15, 16, 17, 40, 128}) {
      auto x = random_floats(tokens * cols, 5, 3.0F);
      std::fill_n(x.begin(), 32, 0.0F);
      x[33] = -100.0F;  // the largest digits
      const auto integers = quantise(x, tokens, cols, isa);
      std::vector<float> expected(tokens * rows);
      kernels(isa).linear_quant(w.matrix, integers.rows, tokens, 0, w.matrix.panels(), expected.data(), rows);
      std::vector<DigitBlock> blocks(DigitRows::size(tokens, cols));
      const DigitRows digits{blocks.data(), cols};
      for (size_t t = 0; t < tokens; ++t) kernels(isa).digits(x.data() + t * cols, digits, t);
      std::vector<float> out(tokens * rows);
      kernels(isa).linear_digits(w.matrix, digits, tokens, 0, w.matrix.panels(), out.data(), rows);
      ASSERT_EQ(out, expected) << "tokens " << tokens;
    }
  }
}

TEST_P(Kernel, ATokenThatIsNoNumberHasNoResultsThatAre) {
  const size_t rows = 53;
  const size_t cols = traits(GetParam()).is_float ? 64 : columns(GetParam());
  const Packed w = random_packed(GetParam(), rows, cols, 3);
  Team team(1);
  Crew crew(team);
  for (const size_t tokens : {1, 3, 9, 40})
    for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()})
      for (const bool bytes : {false, true}) {
        auto x = random_floats(tokens * cols, 5);
        x[(tokens - 1) * cols + 7] = bad;  // the last token's
        const std::vector<float> norm(cols, 1.0F);
        const Linear op{
            .weights = w.matrix, .norm = norm.data(), .epsilon = 1e-5F, .bytes = bytes, .batch_invariant = true};
        Workspace workspace;
        std::vector<float> out(tokens * rows);
        run_linear(crew, op, x.data(), tokens, nullptr, out.data(), allocate_input(op, tokens, workspace));
        for (size_t i = 0; i < out.size(); ++i)
          ASSERT_EQ(std::isfinite(out[i]), i < (tokens - 1) * rows) << "tokens " << tokens << " result " << i;
      }
}

TEST_P(Kernel, TilesKeepSixteenBitsOfWeightsAndActivations) {
  const size_t rows = 53;  // not whole tiles, and an odd number of panels
  const size_t cols = traits(GetParam()).is_float ? 64 : columns(GetParam());
  const Packed w = random_packed(GetParam(), rows, cols, 3);
  for (const Isa isa : instruction_sets()) {
    if (kernels(isa).linear_split == nullptr) continue;
    for (const size_t tokens : {1, 15, 16, 17, 33, 64}) {
      const auto x = random_floats(tokens * cols, 5);
      std::vector<uint16_t> tiles(SplitRows::size(tokens, cols));
      std::vector<uint16_t> scratch(SplitRows::kScratch * cols);
      const SplitRows split{tiles.data(), cols};
      for (size_t t = 0; t < tokens; ++t) kernels(isa).split(x.data() + t * cols, split, t);
      std::vector<float> out(tokens * rows);
      kernels(isa).linear_split(w.matrix, split, tokens, 0, w.matrix.panels(), out.data(), rows, scratch.data());
      for (size_t t = 0; t < tokens; ++t)
        for (size_t r = 0; r < rows; ++r)
          ASSERT_NEAR(out[t * rows + r], dot(w, x, t, r), 0x1p-17 * magnitude(w, x, t, r) + 1e-12)
              << "tokens " << tokens << " token " << t << " row " << r;
    }
  }
}

TEST_P(Kernel, ReadsARow) {
  const size_t cols = traits(GetParam()).is_float ? 50 : columns(GetParam());
  const Packed w = random_packed(GetParam(), 19, cols, 3);
  for (const Isa isa : instruction_sets()) {
    std::vector<float> out(cols);
    kernels(isa).read_row(w.matrix, 17, 2.0F, out.data());
    for (size_t c = 0; c < cols; ++c) {
      const float expected = 2.0F * w.values[17 * cols + c];
      ASSERT_NEAR(out[c], expected, 1e-5F * std::fabs(expected) + 1e-6F);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, Kernel, testing::ValuesIn(kFormats),
                         [](const auto& info) { return "format" + std::to_string(static_cast<int>(info.param)); });

TEST(Matrix, RefusesSizesBeyondAnyMemory) {
  const auto validate = [](Format format, size_t rows, size_t cols) {
    return Matrix{.format = format, .data = nullptr, .rows = rows, .cols = cols}.validate().ok();
  };
  for (const Format format : kFormats) {
    EXPECT_FALSE(validate(format, size_t{1} << 32, size_t{1} << 32));
    EXPECT_FALSE(validate(format, 0, 256));
    EXPECT_FALSE(validate(format, 8, 0));
    EXPECT_TRUE(validate(format, size_t{1} << 20, 8192));
  }
  EXPECT_FALSE(validate(Format::kF32, size_t{1} << 32, size_t{1} << 30));  // 2^64 bytes
  EXPECT_FALSE(validate(Format::kQ80, 8, 33));
}

enum class In { kWords, kBytes, kFloats };

class FusedLinear : public testing::TestWithParam<std::tuple<size_t, In>> {};

TEST_P(FusedLinear, NormBiasAndResidual) {
  const auto [tokens, in] = GetParam();
  const Packed w = random_packed(Format::kQ41, 40, 64, 3);
  const auto x = random_floats(tokens * 64, 5);
  const auto norm = random_floats(64, 6);
  const auto bias = random_floats(40, 7);
  auto out = random_floats(tokens * 40, 8);
  const auto residual = out;
  Linear op{.weights = w.matrix, .norm = norm.data(), .epsilon = 1e-5F, .bias = bias.data()};
  op.exact = in == In::kFloats;
  op.bytes = in == In::kBytes;
  Team team(2);
  Crew crew(team);
  Workspace workspace;
  const LinearInput scratch = allocate_input(op, tokens, workspace);
  run_linear(crew, op, x.data(), tokens, out.data(), out.data(), scratch);
  for (size_t t = 0; t < tokens; ++t) {
    double square = 0;
    for (size_t c = 0; c < 64; ++c) square += static_cast<double>(x[t * 64 + c]) * x[t * 64 + c];
    std::vector<float> normed(tokens * 64);
    for (size_t c = 0; c < 64; ++c)
      normed[t * 64 + c] = static_cast<float>(x[t * 64 + c] / std::sqrt(square / 64 + 1e-5) * norm[c]);
    for (size_t r = 0; r < 40; ++r)
      ASSERT_NEAR(out[t * 40 + r], dot(w, normed, t, r) + bias[r] + residual[t * 40 + r],
                  (in == In::kFloats  ? 1e-5
                   : in == In::kWords ? 1e-4
                                      : 1e-2) *
                      magnitude(w, normed, t, r));
  }
}

TEST_P(FusedLinear, Gates) {
  const auto [tokens, in] = GetParam();
  const Packed w = random_packed(Format::kQ80, 48, 64, 3);
  const auto x = random_floats(tokens * 64, 5);
  for (const Activation activation : {Activation::kSiluGate, Activation::kGeluGate}) {
    Linear op{.weights = w.matrix, .activation = activation, .exact = true};
    std::vector<float> out(tokens * 24);
    Team team(2);
    Crew crew(team);
    Workspace workspace;
    const LinearInput scratch = allocate_input(op, tokens, workspace);
    run_linear(crew, op, x.data(), tokens, nullptr, out.data(), scratch);
    for (size_t t = 0; t < tokens; ++t)
      for (size_t r = 0; r < 24; ++r) {
        const double g = dot(w, x, t, r);
        const double inner = 0.7978845608 * (g + 0.044715 * g * g * g);
        const double act =
            activation == Activation::kSiluGate ? g / (1 + std::exp(-g)) : 0.5 * g * (1 + std::tanh(inner));
        const double up = dot(w, x, t, r + 24);
        ASSERT_NEAR(out[t * 24 + r], act * up, 1e-4 * (std::fabs(act * up) + 1));
      }
    const auto residual = random_floats(tokens * 24, 8);
    auto added = residual;
    run_linear(crew, op, x.data(), tokens, added.data(), added.data(), scratch);
    for (size_t i = 0; i < added.size(); ++i) ASSERT_EQ(added[i], out[i] + residual[i]);
  }
}

TEST_P(FusedLinear, RowsApart) {
  const auto [tokens, in] = GetParam();
  constexpr size_t kRows = 44;  // no whole panels
  constexpr size_t kStride = 60;
  const Packed w = random_packed(Format::kQ41, kRows, 64, 3);
  const auto x = random_floats(tokens * 64, 5);
  const auto bias = random_floats(kRows, 7);
  Linear op{.weights = w.matrix, .bias = bias.data()};
  op.exact = in == In::kFloats;
  op.bytes = in == In::kBytes;
  Team team(2);
  Crew crew(team);
  std::vector<float> packed(tokens * kRows);
  std::vector<float> apart(tokens * kStride, -1.0F);
  Workspace workspace;
  const LinearInput scratch = allocate_input(op, tokens, workspace);
  run_linear(crew, op, x.data(), tokens, nullptr, packed.data(), scratch);
  op.out_stride = kStride;
  run_linear(crew, op, x.data(), tokens, nullptr, apart.data(), scratch);
  for (size_t t = 0; t < tokens; ++t)
    for (size_t c = 0; c < kStride; ++c) ASSERT_EQ(apart[t * kStride + c], c < kRows ? packed[t * kRows + c] : -1.0F);
}

INSTANTIATE_TEST_SUITE_P(Tokens, FusedLinear,
                         testing::Combine(testing::Values(1, 2, 20, 140),
                                          testing::Values(In::kWords, In::kBytes, In::kFloats)));

}  // namespace coe::test
