#include "kernels/likeliest.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <mutex>

namespace coe {
namespace {

constexpr Likeliest kNone{std::numeric_limits<int64_t>::max(), -std::numeric_limits<float>::infinity()};
constexpr size_t kPiece = 64;   // panels whose bounds are computed at a time
constexpr size_t kSettled = 8;  // pieces that are gone through together: few of their panels are joined
constexpr size_t kTokens = 16;  // at a time
constexpr size_t kFew = 2;      // tokens for which a panel is joined one by one, rather than for all

// NaNs rank first, so that they are noticed.
bool is_before(const Likeliest& one, const Likeliest& other) {
  const bool none = std::isnan(one.logit);
  if (none != std::isnan(other.logit)) return none;
  if (none || one.logit == other.logit) return one.id < other.id;
  return one.logit > other.logit;
}

void keep_better(const Likeliest& found, Likeliest& best) {
  if (is_before(found, best)) best = found;
}

// Of the logits of rows [first, first + count); `width` is their place's, a multiple of 8, filled up with what is low.
Likeliest likeliest_of(float* logits, size_t first, size_t count, size_t width) {
  std::fill(logits + count, logits + width, kNone.logit);
  Likeliest best = kNone;
  kernels().highest(logits, 1, width, &best.logit);
  const bool none = std::isnan(best.logit);
  const float* at =
      std::find_if(logits, logits + count, [&](float x) { return none ? std::isnan(x) : x == best.logit; });
  best.id = static_cast<int64_t>(first) + (at - logits);
  return best;
}

// The activations that make a linear over the upper bits, in kQ50, an upper bound: d' (u - 16) is to be
// d (8 u - 124.5) x + 3.5 d |x|, so the scale is eight times x's, and what is missing is put into the sums, which are
// taken off 16 times.
class Bounding {
 public:
  Bounding(const QuantRows& x, size_t tokens, Workspace& workspace)
      : rows_{x.q, workspace.take<float>(tokens * (x.cols / kBlock)), workspace.take<float>(tokens * (x.cols / 16)),
              workspace.take<float>(tokens * (x.cols / kBlock)), x.cols},
        x_(x) {}

  [[nodiscard]] const QuantRows& rows() const { return rows_; }

  void prepare(size_t token) const {
    const QuantRows from = x_.from(token);
    const QuantRows to = rows_.from(token);
    const size_t blocks = from.cols / kBlock;
    for (size_t b = 0; b < blocks; ++b) {
      to.scale[b] = kStep * from.scale[b];
      for (size_t half = 0; half < 2; ++half) {
        const int16_t* q = from.q + b * kBlock + 16 * half;
        int32_t size = 0;
        for (size_t i = 0; i < 16; ++i) size += std::abs(q[i]);
        to.sum16[2 * b + half] = (kCentre * from.sum16[2 * b + half] -
                                  (kWithin + rounding(blocks)) * from.scale[b] * static_cast<float>(size)) /
                                 kZero;
      }
      to.sum32[b] = to.sum16[2 * b] + to.sum16[2 * b + 1];
    }
  }

  // The same in digits, whose whole numbers are there.
  void prepare_digits(const DigitRows& digits, size_t token) const {
    const QuantRows row = rows_.from(token);
    const size_t member = token % DigitBlock::kTokens;
    for (size_t b = 0; b < row.cols / kBlock; ++b) {
      DigitBlock& block = *digits.at(token, b);
      block.scale[member] = row.scale[b];
      block.sum32[member] = row.sum32[b];
    }
  }

 private:
  static constexpr float kStep = 1 << traits(Format::kQ80Planes).low_bits;
  static constexpr float kWithin = (kStep - 1) / 2;
  static constexpr float kCentre = 128 - kWithin;
  static constexpr float kZero = traits(Format::kQ50).zero;
  // For 32-bit floats: at most so many roundings, of sums that are at most so much larger than d |x|: 128 in the logit
  // itself, 248 and 128 in the bound, each of blocks + 4 terms rounded up to three times.
  static constexpr float rounding(size_t blocks) {
    return 0x1p-24F * 3 * (128 + 248 + 128) * static_cast<float>(blocks + 4);
  }

  QuantRows rows_;
  QuantRows x_;
};

// The search for a group of tokens.
class Search {
 public:
  Search(Crew& crew, const Linear& op, const QuantRows& x, const DigitRows& digits, size_t tokens,
         const Bounding& bounding, Workspace& workspace, Likeliest* best)
      : crew_(crew),
        w_(op.weights),
        x_(x),
        digits_(digits),
        tokens_(tokens),
        bounding_(bounding),
        pieces_((w_.panels() + kPiece - 1) / kPiece),
        of_panels_(workspace.take<float>(w_.panels() * tokens)),
        of_pieces_(workspace.take<float>(pieces_ * tokens)),
        best_(best) {
    std::fill_n(best, tokens, kNone);
  }

  void run() {
    crew_.share(pieces_, 1, [&](size_t begin, size_t end) {
      for (size_t piece = begin; piece < end; ++piece) bound(piece);
    });
    reach();
    crew_.share(pieces_, kSettled, [&](size_t begin, size_t end) { settle(begin, end); });
  }

 private:
  [[nodiscard]] float* panel_bounds(size_t token) const { return of_panels_ + token * w_.panels(); }
  [[nodiscard]] float* piece_bounds(size_t token) const { return of_pieces_ + token * pieces_; }
  [[nodiscard]] size_t first_panel(size_t piece) const { return piece * kPiece; }
  [[nodiscard]] size_t end_panel(size_t piece) const { return std::min((piece + 1) * kPiece, w_.panels()); }
  [[nodiscard]] size_t rows_of(size_t panel) const { return std::min(kPanel, w_.rows - panel * kPanel); }

  // Step 1.
  void bound(size_t piece) {
    constexpr size_t kRows = kPiece * kPanel;
    const size_t begin = first_panel(piece);
    const size_t end = end_panel(piece);
    Workspace& local = Workspace::local();
    local.reset();
    float* tile = local.take<float>(tokens_ * kRows);
    float* from = tile - begin * kPanel;
    if (rows_of(end - 1) < kPanel)  // rows that are not there
      for (size_t t = 0; t < tokens_; ++t) std::fill_n(from + t * kRows + (end - 1) * kPanel, kPanel, kNone.logit);
    if (digits_.blocks != nullptr) {
      kernels().linear_digits(w_.upper(), digits_, tokens_, begin, end, from, kRows);
    } else {
      kernels().linear_quant(w_.upper(), bounding_.rows(), tokens_, begin, end, from, kRows);
    }
    for (size_t t = 0; t < tokens_; ++t) {
      float* bounds = panel_bounds(t) + begin;
      kernels().highest(tile + t * kRows, end - begin, kPanel, bounds);
      float& of_piece = piece_bounds(t)[piece];
      of_piece = kNone.logit;
      for (size_t i = 0; i < end - begin; ++i) {
        if (std::isnan(bounds[i])) bounds[i] = -kNone.logit;  // gives no bound
        of_piece = std::max(of_piece, bounds[i]);
      }
    }
  }

  // Step 2.
  void reach() {
    for (size_t t = 0; t < tokens_; ++t) {
      const float* pieces = piece_bounds(t);
      const auto piece = static_cast<size_t>(std::max_element(pieces, pieces + pieces_) - pieces);
      const float* bounds = panel_bounds(t);
      join(static_cast<size_t>(std::max_element(bounds + first_panel(piece), bounds + end_panel(piece)) - bounds), t, 1,
           best_);
    }
  }

  // Step 3.
  void settle(size_t begin, size_t end) {
    Likeliest best[kTokens];
    {
      const std::lock_guard guard(mutex_);
      std::copy_n(best_, tokens_, best);
    }
    for (size_t piece = begin; piece < end; ++piece) {
      if (open(of_pieces_ + piece, pieces_, best) == 0) continue;
      for (size_t panel = first_panel(piece); panel < end_panel(piece); ++panel) settle_panel(panel, best);
    }
    const std::lock_guard guard(mutex_);
    for (size_t t = 0; t < tokens_; ++t) keep_better(best[t], best_[t]);
  }

  void settle_panel(size_t panel, Likeliest* best) const {
    const float* bounds = of_panels_ + panel;
    const size_t tokens = open(bounds, w_.panels(), best);
    if (tokens > kFew) return join(panel, 0, tokens_, best);
    for (size_t t = 0; tokens > 0 && t < tokens_; ++t)
      if (is_open(bounds[t * w_.panels()], best[t])) join(panel, t, 1, best);
  }

  static bool is_open(float bound, const Likeliest& best) { return !(bound < best.logit); }

  // Tokens to which a panel or a piece still matters; their bounds lie `stride` apart.
  size_t open(const float* bounds, size_t stride, const Likeliest* best) const {
    size_t count = 0;
    for (size_t t = 0; t < tokens_; ++t) count += is_open(bounds[t * stride], best[t]) ? 1 : 0;
    return count;
  }

  // The logits of a panel for some tokens.
  void join(size_t panel, size_t token, size_t count, Likeliest* best) const {
    float logits[kTokens * kPanel];
    kernels().linear_quant(w_, x_.from(token), count, panel, panel + 1, logits - panel * kPanel, kPanel);
    for (size_t t = 0; t < count; ++t)
      keep_better(likeliest_of(logits + t * kPanel, panel * kPanel, rows_of(panel), kPanel), best[token + t]);
  }

  Crew& crew_;
  const Matrix& w_;
  const QuantRows& x_;
  const DigitRows& digits_;
  size_t tokens_;
  const Bounding& bounding_;
  size_t pieces_;
  float* of_panels_;
  float* of_pieces_;
  std::mutex mutex_;  // of best_
  Likeliest* best_;
};

void search_planes(Crew& crew, const Linear& op, const float* x, size_t tokens, Workspace& workspace, Likeliest* out) {
  const LinearInput input = take_input(op, tokens, workspace);
  const Bounding bounding(input.quant, tokens, workspace);
  DigitRows digits{nullptr, op.weights.cols};
  if (tokens >= DigitRows::worth(Format::kQ50) && kernels().linear_digits != nullptr)
    digits.blocks = workspace.take<DigitBlock>(DigitRows::size(tokens, digits.cols));
  crew.share(tokens, 1, [&](size_t begin, size_t end) {
    for (size_t t = begin; t < end; ++t) {
      const float* row = prepare_row(op, x, input, t);
      bounding.prepare(t);
      if (digits.blocks == nullptr) continue;
      kernels().digits(row, digits, t);
      bounding.prepare_digits(digits, t);
    }
  });
  Search(crew, op, input.quant, digits, tokens, bounding, workspace, out).run();
}

void compare_all(Crew& crew, const Linear& op, const float* x, size_t tokens, float softcap, Workspace& workspace,
                 Likeliest* out) {
  constexpr size_t kRows = 4096;
  const size_t rows = op.weights.rows;
  const size_t width = (rows + kPanel - 1) / kPanel * kPanel;
  Linear padded = op;
  padded.out_stride = width;
  auto* logits = workspace.take<float>(tokens * width);
  run_linear(crew, padded, x, tokens, nullptr, logits, allocate_input(op, tokens, workspace));
  std::mutex mutex;
  std::fill_n(out, tokens, kNone);
  const size_t pieces = (width + kRows - 1) / kRows;
  crew.share(tokens * pieces, 1, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      const size_t first = i % pieces * kRows;
      float* row = logits + i / pieces * width + first;
      const size_t count = std::min(kRows, rows - first);
      const size_t in_panels = std::min(kRows, width - first);
      Likeliest found = likeliest_of(row, first, count, in_panels);
      if (softcap > 0 && !std::isnan(found.logit)) {  // of which equals may come
        kernels().soft_cap(row, count, softcap);
        found = likeliest_of(row, first, count, in_panels);
      }
      const std::lock_guard guard(mutex);
      keep_better(found, out[i / pieces]);
    }
  });
}

}  // namespace

void find_likeliest(Crew& crew, const Linear& op, const float* x, size_t tokens, float softcap, Workspace& workspace,
                    Likeliest* out) {
  if (op.weights.format != Format::kQ80Planes || !op.quantised() || op.bias != nullptr || softcap > 0)
    return compare_all(crew, op, x, tokens, softcap, workspace, out);
  for (size_t token = 0; token < tokens; token += kTokens)
    search_planes(crew, op, x + token * op.weights.cols, std::min(kTokens, tokens - token), workspace, out + token);
}

}  // namespace coe
