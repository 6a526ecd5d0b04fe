#include <cmath>
#include <limits>

#include "kernels/table.h"
#include "support.h"

namespace coe::test {

TEST(Rows, NormOfAnyLength) {
  for (const Isa isa : instruction_sets())
    for (const size_t n : {1, 7, 16, 50, 576}) {
      const auto x = random_floats(n, 1);
      const auto weight = random_floats(n, 2);
      std::vector<float> out(n);
      kernels(isa).rms_norm(x.data(), weight.data(), n, 1e-5F, out.data());
      double square = 0;
      for (const float v : x) square += static_cast<double>(v) * v;
      for (size_t i = 0; i < n; ++i)
        ASSERT_NEAR(out[i], x[i] / std::sqrt(square / static_cast<double>(n) + 1e-5) * weight[i], 1e-5);
    }
}

namespace {

template <class Integer>
void expect_within_half_a_step(void (*quantise)(const float*, const BlockRows<Integer>&), float largest) {
  auto x = random_floats(96, 3);
  std::fill(x.begin() + 32, x.begin() + 64, 0.0F);
  Integer q[96];
  float scale[3];
  float sum16[6];
  float sum32[3];
  quantise(x.data(), {q, scale, sum16, sum32, 96});
  for (size_t b = 0; b < 3; ++b) {
    float sum = 0;
    for (size_t i = 32 * b; i < 32 * b + 32; ++i) {
      const auto whole = static_cast<float>(q[sizeof(Integer) == 1 ? i : lane_of(i)]);
      ASSERT_LE(std::fabs(whole), largest);
      ASSERT_NEAR(whole * scale[b], x[i], 0.51F * scale[b]);
      sum += whole * scale[b];
    }
    ASSERT_NEAR(sum32[b], sum, 1e-4);
    ASSERT_NEAR(sum16[2 * b] + sum16[2 * b + 1], sum, 1e-4);
  }
}

}  // namespace

TEST(Rows, QuantisedBlocksAreWithinHalfAStep) {
  for (const Isa isa : instruction_sets()) {
    expect_within_half_a_step(kernels(isa).quantise, kLargestQuant);
    expect_within_half_a_step(kernels(isa).bytes, kLargestByte);
  }
}

TEST(Rows, BlocksOfNextToNothingAreNothingOnEveryInstructionSet) {
  const auto expect_nothing = [](auto quantise, auto integer, const std::vector<float>& x) {
    decltype(integer) q[32];
    float scale[1];
    float sum16[2];
    float sum32[1];
    quantise(x.data(), {q, scale, sum16, sum32, 32});
    for (const auto whole : q) ASSERT_EQ(whole, 0);
    ASSERT_EQ(sum32[0], 0.0F);
  };
  for (const Isa isa : instruction_sets())
    for (const float largest : {1e-45F, 1e-38F, 9e-35F}) {
      std::vector<float> x(32, largest);
      x[1] = 0;
      x[2] = -largest;
      expect_nothing(kernels(isa).quantise, int16_t{}, x);
      expect_nothing(kernels(isa).bytes, int8_t{}, x);
    }
}

TEST(Rows, WhatIsNoNumberIsNotLostWhereverItStands) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const Isa isa : instruction_sets())
    for (const float bad : {std::nanf(""), infinity, -infinity})
      for (size_t at = 0; at < 64; ++at) {
        auto x = random_floats(64, 3);
        x[at] = bad;
        int16_t q[64];
        float scale[2];
        float sum16[4];
        float sum32[2];
        kernels(isa).quantise(x.data(), {q, scale, sum16, sum32, 64});
        ASSERT_FALSE(std::isfinite(scale[at / 32]));
        ASSERT_FALSE(std::isfinite(sum32[at / 32]));
        ASSERT_TRUE(std::isfinite(scale[1 - at / 32]));
        kernels(isa).soft_cap(x.data(), 64, 30.0F);
        ASSERT_EQ(std::isnan(x[at]), std::isnan(bad));
      }
}

TEST(Rows, ActivationsFarOutStayFinite) {
  for (const Isa isa : instruction_sets()) {
    const std::vector<float> gate = {-200, -20, -1, 0, 1, 20, 200, 1e30F, -1e30F};
    const std::vector<float> up(gate.size(), 1.0F);
    std::vector<float> out(gate.size());
    kernels(isa).silu_gate(gate.data(), up.data(), gate.size(), out.data());
    for (size_t i = 0; i < gate.size(); ++i)
      ASSERT_NEAR(out[i], gate[i] / (1 + std::exp(-static_cast<double>(gate[i]))), std::fabs(gate[i]) * 1e-6);
    std::vector<float> capped = gate;
    kernels(isa).soft_cap(capped.data(), capped.size(), 30.0F);
    for (size_t i = 0; i < gate.size(); ++i) ASSERT_NEAR(capped[i], 30 * std::tanh(gate[i] / 30.0), 1e-4);
  }
}

TEST(Rows, HalvesRoundToNearest) {
  // Ties go to even; more values than a register holds, and not whole registers.
  const std::vector<float> x{1.0F,     -2.0F,    65504.0F, 65520.0F,        1e9F,
                             0x1p-24F, 0x1p-26F, 0.0F,     1.0F + 0x1p-11F, 1.0F + 3 * 0x1p-11F};
  const std::vector<uint16_t> expected{0x3c00, 0xc000, 0x7bff, 0x7c00, 0x7c00, 1, 0, 0, 0x3c00, 0x3c02};
  for (const Isa isa : instruction_sets())
    for (size_t first = 0; first < x.size(); ++first) {
      std::vector<uint16_t> out(x.size() - first);
      kernels(isa).to_halves(x.data() + first, out.size(), out.data());
      ASSERT_EQ(out, std::vector<uint16_t>(expected.begin() + static_cast<std::ptrdiff_t>(first), expected.end()));
    }
}

}  // namespace coe::test
