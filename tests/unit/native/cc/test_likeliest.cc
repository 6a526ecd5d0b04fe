#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/likeliest.h"
#include "packed.h"

namespace coe::test {
namespace {

// Two panels more than are settled at a time, the last one not whole.
constexpr size_t kManyRows = 4096 + 13;

struct Result {
  std::vector<Likeliest> found;
  std::vector<Likeliest> expected;  // of all logits
};

Result search(const Linear& op, const std::vector<float>& x, float softcap = 0) {
  const size_t tokens = x.size() / op.weights.cols;
  const size_t rows = op.weights.rows;
  Team team(2);
  Crew crew(team);
  Workspace workspace;
  Result result;
  std::vector<float> logits(tokens * rows);
  run_linear(crew, op, x.data(), tokens, nullptr, logits.data(), allocate_input(op, tokens, workspace));
  if (softcap > 0) kernels().soft_cap(logits.data(), logits.size(), softcap);
  for (size_t t = 0; t < tokens; ++t) {
    const float* row = logits.data() + t * rows;
    const auto best = std::max_element(row, row + rows);  // the first of equals
    result.expected.push_back({best - row, *best});
  }
  result.found.resize(tokens);
  find_likeliest(crew, op, x.data(), tokens, softcap, workspace, result.found.data());
  return result;
}

void expect_same(const Result& result) {
  for (size_t t = 0; t < result.found.size(); ++t) {
    EXPECT_EQ(result.found[t].id, result.expected[t].id) << "token " << t;
    EXPECT_EQ(result.found[t].logit, result.expected[t].logit) << "token " << t;
  }
}

void set_quant(Packed& w, size_t row, size_t column, int q) {
  const Matrix& m = w.matrix;
  uint8_t* block = w.bytes.data() + row / 8 * m.panel_bytes() + column / 32 * 176 + 16;
  uint8_t* low = w.bytes.data() + m.panels() * m.panel_bytes() + row / 8 * m.low_panel_bytes() + column / 32 * 96;
  const size_t step = column % 32 / 4;
  const size_t lane = 4 * (row % 8) + column % 4;
  const auto put = [](uint8_t& byte, size_t at, unsigned mask, unsigned bits) {
    byte = static_cast<uint8_t>((byte & ~(mask << at)) | bits << at);
  };
  const auto whole = static_cast<unsigned>(q + 128);
  put(block[32 * (step / 2) + lane], 4 * (step % 2), 15, whole >> 3 & 15);
  put(block[128 + lane], step, 1, whole >> 7);
  put(low[32 * (step / 4) + lane], 2 * (step % 4), 3, whole >> 1 & 3);
  put(low[64 + lane], step, 1, whole & 1);
}

void set_scale(Packed& w, size_t row, size_t block, uint16_t half) {
  std::memcpy(w.bytes.data() + row / 8 * w.matrix.panel_bytes() + block * 176 + 2 * (row % 8), &half, sizeof half);
}

}  // namespace

class LikeliestOf : public testing::TestWithParam<size_t> {};

TEST_P(LikeliestOf, IsThatOfAllLogits) {
  for (const size_t rows : {1UL, 13UL, 600UL, kManyRows})
    for (const Format format : {Format::kQ80Planes, Format::kQ80, Format::kQ6K, Format::kF16}) {
      const size_t cols = format == Format::kQ6K ? 256 : 96;
      const Packed w = random_packed(format, rows, cols, static_cast<unsigned>(rows));
      const auto norm = random_floats(cols, 6);
      const Linear op{.weights = w.matrix, .norm = norm.data(), .epsilon = 1e-5F, .batch_invariant = true};
      expect_same(search(op, random_floats(GetParam() * cols, 5, 3.0F)));
    }
}

TEST_P(LikeliestOf, StandsOut) {
  const size_t cols = 576;
  const Packed w = random_packed(Format::kQ80Planes, kManyRows, cols, 3);
  std::vector<float> x;
  for (size_t t = 0; t < GetParam(); ++t) {
    const size_t row = (t * 977 + 4100) % kManyRows;
    for (size_t c = 0; c < cols; ++c) x.push_back(w.values[row * cols + c]);
  }
  const Result result = search({.weights = w.matrix}, x);
  expect_same(result);
  for (size_t t = 0; t < GetParam(); ++t) EXPECT_EQ(result.found[t].id, (t * 977 + 4100) % kManyRows);
}

TEST_P(LikeliestOf, MayHaveAllOfItInTheLowerBits) {
  // Every row has the same upper bits. What the bound allows for is reached: in one row the lower bits have the signs
  // of the activations, in the others they are against them, or next to the best.
  const size_t cols = 96;
  for (unsigned seed = 0; seed < 20; ++seed) {
    Packed w = random_packed(Format::kQ80Planes, 700, cols, 3);
    const auto x = random_floats(GetParam() * cols, seed);
    const size_t best = seed * 37 % 700;
    for (size_t row = 0; row < 700; ++row)
      for (size_t c = 0; c < cols; ++c) {
        if (row != 0 && c % 32 == 0) set_scale(w, row, c / 32, 0x2400);
        const bool with = row == best || (row % 5 == 0 && c != 40);
        set_quant(w, row, c, static_cast<int>(c % 31) * 8 - 128 + (with == (x[c] > 0) ? 7 : 0));
      }
    expect_same(search({.weights = w.matrix}, x));
  }
}

TEST_P(LikeliestOf, IsTheFirstOfEquals) {
  Packed w = random_packed(Format::kQ80Planes, 1500, 64, 3);
  for (size_t row = 0; row < 1500; ++row)
    for (size_t c = 0; c < 64; ++c) {
      if (c % 32 == 0) set_scale(w, row, c / 32, 0x2400);
      set_quant(w, row, c, row == 700 || row == 701 || row == 1400 ? 90 : 3);
    }
  const Result result = search({.weights = w.matrix}, std::vector<float>(GetParam() * 64, 1.0F));
  expect_same(result);
  EXPECT_EQ(result.found[0].id, 700);
  const Result nothing = search({.weights = w.matrix}, std::vector<float>(GetParam() * 64, 0.0F));
  EXPECT_EQ(nothing.found[0].id, 0);
  EXPECT_EQ(nothing.found[0].logit, 0.0F);
}

TEST_P(LikeliestOf, ComesAfterTheCap) {
  const Packed w = random_packed(Format::kQ80, 600, 96, 3);
  expect_same(search({.weights = w.matrix}, random_floats(GetParam() * 96, 5, 30.0F), 2.0F));  // most are equal
}

TEST_P(LikeliestOf, ShowsWhatIsNoNumber) {
  for (const Format format : {Format::kQ80Planes, Format::kQ80}) {
    Packed w = random_packed(format, kManyRows, 96, 3);
    const size_t row = 2345;
    const uint16_t nan = 0x7e00;
    std::memcpy(w.bytes.data() + row / 8 * w.matrix.panel_bytes() + 2 * (row % 8), &nan, sizeof nan);
    const Result result = search({.weights = w.matrix}, random_floats(GetParam() * 96, 5));
    for (const Likeliest& found : result.found) {
      EXPECT_EQ(found.id, static_cast<int64_t>(row));
      EXPECT_TRUE(std::isnan(found.logit));
    }
    for (const float softcap : {0.0F, 30.0F}) {
      std::vector<float> x(GetParam() * 96, 1.0F);
      x[7] = std::numeric_limits<float>::quiet_NaN();
      EXPECT_TRUE(std::isnan(search({.weights = w.matrix}, x, softcap).found[0].logit));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Tokens, LikeliestOf, testing::Values(1, 3, 5, 8, 17));

}  // namespace coe::test
