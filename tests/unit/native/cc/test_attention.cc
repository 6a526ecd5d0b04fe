#include <cmath>

#include "kernels/attention.h"
#include "support.h"

namespace coe::test {
namespace {

struct Case {
  size_t heads, kv_heads, head_dim, prompt, decode;
  int64_t window;
  float softcap;
  bool norms;
  KvType type;
  unsigned threads;
};

// Two sequences, their blocks interleaved in the cache; all of one sequence's K
// and V kept as plain vectors beside it.
class Model {
 public:
  explicit Model(const Case& c) : c_(c), rope_(10000.0F, c.head_dim, {}) {
    shape_ = {.layer = 1,
              .heads = c.heads,
              .kv_heads = c.kv_heads,
              .head_dim = c.head_dim,
              .block_size = 16,
              .scale = 0.3F,
              .window = c.window,
              .softcap = c.softcap,
              .epsilon = 1e-6F};
    cache_.resize(2 * kBlocks * 2 * c.kv_heads * 16 * kv_row(c.type, c.head_dim) * kv_bytes(c.type),
                  0xff);  // NaNs
    norm_ = random_floats(c.head_dim, 9);
    for (int64_t s = 0; s < 2; ++s)
      for (int64_t b = 0; b < kBlocks / 2; ++b) table_.push_back(2 * b + s);
  }

  void step(const std::vector<int64_t>& positions, const std::vector<int64_t>& sequences, unsigned seed) {
    const size_t tokens = positions.size();
    const auto qkv = random_floats(tokens * shape_.qkv_width(), seed);
    const Step step{tokens, positions.data(), sequences.data(), table_.data(), 2, kBlocks / 2};
    const KvCache kv{cache_.data(), c_.type, 2, kBlocks};
    AttentionPlan plan;
    ASSERT_OK(plan.build(shape_, step, kv, c_.threads));
    Workspace workspace;
    const auto scratch = allocate_attention(shape_, plan, tokens, workspace);
    const AttentionWeights weights{c_.norms ? norm_.data() : nullptr, c_.norms ? norm_.data() : nullptr};
    std::vector<float> out(tokens * c_.heads * c_.head_dim);
    Team team(c_.threads);
    Crew crew(team);
    run_attention(crew, shape_, plan, weights, rope_, step, kv, qkv.data(), out.data(), scratch);
    for (size_t t = 0; t < tokens; ++t) {
      const float* row = qkv.data() + t * shape_.qkv_width();
      auto& history = history_[static_cast<size_t>(sequences[t])];
      std::vector<double> k;
      std::vector<double> v;
      for (size_t h = 0; h < c_.kv_heads; ++h) {
        const auto turned = rotated(row + (c_.heads + h) * c_.head_dim, positions[t]);
        k.insert(k.end(), turned.begin(), turned.end());
        for (size_t d = 0; d < c_.head_dim; ++d) v.push_back(row[(c_.heads + c_.kv_heads + h) * c_.head_dim + d]);
      }
      history.emplace_back(k, v);
      check(row, positions[t], history, out.data() + t * c_.heads * c_.head_dim);
    }
  }

 private:
  static constexpr int64_t kBlocks = 60;
  using History = std::vector<std::pair<std::vector<double>, std::vector<double>>>;

  std::vector<double> rotated(const float* x, int64_t position) {
    const size_t n = c_.head_dim;
    std::vector<double> normed(x, x + n);
    if (c_.norms) {
      double square = 0;
      for (const double value : normed) square += value * value;
      for (size_t i = 0; i < n; ++i) normed[i] *= norm_[i] / std::sqrt(square / static_cast<double>(n) + 1e-6);
    }
    std::vector<double> out(n);
    for (size_t i = 0; i < n / 2; ++i) {
      const double angle =
          static_cast<double>(position) * std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(n));
      out[i] = normed[i] * std::cos(angle) - normed[i + n / 2] * std::sin(angle);
      out[i + n / 2] = normed[i + n / 2] * std::cos(angle) + normed[i] * std::sin(angle);
    }
    return out;
  }

  void check(const float* row, int64_t position, const History& history, const float* out) {
    // Of values up to about 4: a step of eight bits is 0.03 then.
    const double tolerance = c_.type == KvType::kF32 ? 2e-5 : c_.type == KvType::kF16 ? 2e-2 : 8e-2;
    for (size_t h = 0; h < c_.heads; ++h) {
      const size_t kv = h / (c_.heads / c_.kv_heads) * c_.head_dim;
      const auto q = rotated(row + h * c_.head_dim, position);
      std::vector<double> expected(c_.head_dim);
      double sum = 0;
      for (int64_t p = c_.window > 0 ? std::max<int64_t>(0, position - c_.window + 1) : 0; p <= position; ++p) {
        const auto& [k, v] = history[static_cast<size_t>(p)];
        double score = 0;
        for (size_t d = 0; d < c_.head_dim; ++d) score += q[d] * k[kv + d] * 0.3F;
        if (c_.softcap > 0) score = c_.softcap * std::tanh(score / c_.softcap);
        const double weight = std::exp(score);
        sum += weight;
        for (size_t d = 0; d < c_.head_dim; ++d) expected[d] += weight * v[kv + d];
      }
      for (size_t d = 0; d < c_.head_dim; ++d) ASSERT_NEAR(out[h * c_.head_dim + d], expected[d] / sum, tolerance);
    }
  }

  Case c_;
  AttentionShape shape_;
  RopeTable rope_;
  std::vector<uint8_t> cache_;
  std::vector<float> norm_;
  std::vector<int64_t> table_;
  History history_[2];
};

}  // namespace

class Attention : public testing::TestWithParam<Case> {};

TEST_P(Attention, PrefillAndDecodeAgreeWithTheFormula) {
  const Case& c = GetParam();
  Model model(c);
  std::vector<int64_t> positions;
  std::vector<int64_t> sequences;
  for (size_t t = 0; t < c.prompt; ++t) positions.push_back(static_cast<int64_t>(t));
  sequences.assign(c.prompt, 0);
  for (int64_t t = 0; t < 5; ++t) positions.push_back(t);
  sequences.resize(positions.size(), 1);
  model.step(positions, sequences, 1);
  for (size_t i = 0; i < c.decode; ++i)
    model.step({static_cast<int64_t>(c.prompt + i), static_cast<int64_t>(5 + i)}, {0, 1},
               static_cast<unsigned>(10 + i));
}

INSTANTIATE_TEST_SUITE_P(Shapes, Attention,
                         testing::Values(Case{9, 3, 64, 37, 3, 0, 0, false, KvType::kF32, 2},
                                         Case{4, 1, 32, 300, 3, 0, 0, true, KvType::kF32, 2},
                                         Case{4, 4, 16, 200, 2, 20, 0, false, KvType::kF32, 1},
                                         Case{20, 1, 16, 40, 2, 0, 5, false, KvType::kF32, 2},
                                         Case{6, 2, 64, 140, 3, 50, 10, true, KvType::kF16, 2},
                                         Case{32, 2, 16, 20, 2, 0, 0, false, KvType::kF16, 3},
                                         Case{9, 3, 64, 140, 3, 0, 0, false, KvType::kI8, 2},
                                         Case{6, 2, 64, 140, 3, 50, 10, true, KvType::kI8, 3}));

namespace {

constexpr size_t kTokens = 400;
constexpr size_t kOthers = 5;

struct Variant {
  int64_t window;
  KvType type;
  unsigned threads;
};

// The results of all tokens of a sequence, which come `piece` at a time. Each time `others` tokens of other sequences
// are in the step.
std::vector<float> attended(const Variant& v, size_t piece, size_t others) {
  const AttentionShape shape{
      .layer = 0, .heads = 6, .kv_heads = 2, .head_dim = 32, .block_size = 16, .scale = 0.3F, .window = v.window};
  constexpr size_t kWidth = kTokens / 16;  // blocks of a sequence
  constexpr size_t kBlocks = (1 + kOthers) * kWidth;
  std::vector<uint8_t> cache(kBlocks * 2 * shape.kv_heads * 16 * kv_row(v.type, shape.head_dim) * kv_bytes(v.type));
  std::vector<int64_t> table;
  for (size_t block = 0; block < kBlocks; ++block) table.push_back(static_cast<int64_t>(block));
  RopeTable rope(10000.0F, shape.head_dim, {});
  Team team(v.threads);
  Crew crew(team);
  const size_t width = shape.qkv_width();
  const auto all = random_floats((1 + kOthers) * kTokens * width, 1);
  const size_t out_width = shape.heads * shape.head_dim;
  std::vector<float> results;
  for (size_t first = 0; first < kTokens; first += piece) {
    std::vector<int64_t> positions;
    std::vector<int64_t> sequences;
    std::vector<float> qkv;
    const auto add = [&](size_t sequence, size_t position) {
      sequences.push_back(static_cast<int64_t>(sequence));
      positions.push_back(static_cast<int64_t>(position));
      const float* row = all.data() + (sequence * kTokens + position) * width;
      qkv.insert(qkv.end(), row, row + width);
    };
    for (size_t t = first; t < std::min(first + piece, kTokens); ++t) add(0, t);
    const size_t own = positions.size();
    for (size_t other = 1; other <= others; ++other) add(other, first);
    const Step step{positions.size(), positions.data(), sequences.data(), table.data(), 1 + kOthers, kWidth};
    const KvCache kv{cache.data(), v.type, 1, kBlocks};
    AttentionPlan plan;
    EXPECT_TRUE(plan.build(shape, step, kv, v.threads).ok());
    Workspace workspace;
    const auto scratch = allocate_attention(shape, plan, positions.size(), workspace);
    std::vector<float> out(positions.size() * out_width);
    run_attention(crew, shape, plan, {}, rope, step, kv, qkv.data(), out.data(), scratch);
    results.insert(results.end(), out.begin(), out.begin() + static_cast<std::ptrdiff_t>(own * out_width));
  }
  return results;
}

}  // namespace

TEST(AttentionBits, AreTheTokensOwnWhateverSharesItsStepAndHoweverItsPromptIsCut) {
  for (const int64_t window : {0, 200})
    for (const KvType type : {KvType::kF32, KvType::kF16, KvType::kI8}) {
      const auto expected = attended({window, type, 1}, 1, 0);
      for (const unsigned threads : {1U, 2U, 5U})
        for (const auto& [piece, others] :
             std::vector<std::pair<size_t, size_t>>{{1, 0}, {1, 5}, {16, 0}, {7, 2}, {400, 0}})
          ASSERT_EQ(attended({window, type, threads}, piece, others), expected)
              << "window " << window << " threads " << threads << " pieces of " << piece << " beside " << others;
    }
}

TEST(AttentionBits, AKeyThatIsNoNumberIsNoticedUnderACap) {
  for (const KvType type : {KvType::kF32, KvType::kF16, KvType::kI8}) {
    const AttentionShape shape{
        .layer = 0, .heads = 2, .kv_heads = 1, .head_dim = 16, .block_size = 16, .scale = 1, .softcap = 5};
    std::vector<uint8_t> cache(2 * 16 * kv_row(type, shape.head_dim) * kv_bytes(type));
    auto qkv = random_floats(shape.qkv_width(), 1);
    qkv[2 * shape.head_dim + 3] = std::nanf("");  // of the key
    const int64_t zero = 0;
    const Step step{1, &zero, &zero, &zero, 1, 1};
    const KvCache kv{cache.data(), type, 1, 1};
    AttentionPlan plan;
    ASSERT_OK(plan.build(shape, step, kv, 1));
    Workspace workspace;
    const auto scratch = allocate_attention(shape, plan, 1, workspace);
    std::vector<float> out(2 * shape.head_dim);
    RopeTable rope(10000.0F, shape.head_dim, {});
    Team team(1);
    Crew crew(team);
    run_attention(crew, shape, plan, {}, rope, step, kv, qkv.data(), out.data(), scratch);
    for (const float value : out) ASSERT_TRUE(std::isnan(value));
  }
}

TEST(AttentionShape, RefusesHeadsWhoseWidthIsBeyondAnyMemory) {
  const AttentionShape shape{.heads = (size_t{1} << 60) + 1, .kv_heads = 1, .head_dim = 16, .block_size = 16};
  EXPECT_EQ(shape.qkv_width(), 48);  // of one head: it fits a tensor
  EXPECT_FALSE(shape.validate().ok());
}

TEST(AttentionPlan, RefusesWhatWouldLeaveTheCache) {
  const AttentionShape shape{.layer = 0, .heads = 2, .kv_heads = 1, .head_dim = 16, .block_size = 16};
  const KvCache kv{nullptr, KvType::kF32, 1, 4};
  const auto build = [&](std::vector<int64_t> positions, std::vector<int64_t> sequences, std::vector<int64_t> table) {
    AttentionPlan plan;
    const Step step{positions.size(), positions.data(), sequences.data(), table.data(), 1, table.size()};
    return plan.build(shape, step, kv, 1);
  };
  EXPECT_TRUE(build({0, 16}, {0, 0}, {3, 0}).ok());
  EXPECT_FALSE(build({-1}, {0}, {0}).ok());
  EXPECT_FALSE(build({16}, {0}, {0}).ok());
  EXPECT_FALSE(build({0}, {1}, {0}).ok());
  EXPECT_FALSE(build({0}, {-1}, {0}).ok());
  EXPECT_FALSE(build({0}, {0}, {4}).ok());
  EXPECT_FALSE(build({0}, {0}, {-1}).ok());
  EXPECT_FALSE(build({1, 1}, {0, 0}, {0}).ok());
  AttentionShape beyond = shape;
  beyond.layer = 1;
  AttentionPlan plan;
  EXPECT_FALSE(plan.build(beyond, {}, kv, 1).ok());
}

}  // namespace coe::test
