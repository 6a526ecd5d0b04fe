#include "kernels/linear.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>

namespace coe {
namespace {

constexpr size_t kTokenTile = 128;
constexpr size_t kTileBytes = size_t{1} << 20;  // of a thread's tiles of activations
// From this many tokens on, bfloat16 is faster than digits: it takes longer to unpack, but less time to multiply.
constexpr size_t kSplitTokens = 49;
constexpr size_t kSplitTokensOfFloats = 17;

template <class Integer>
BlockRows<Integer> block_rows(size_t cols, size_t tokens, Workspace& workspace) {
  return {workspace.take<Integer>(tokens * cols), workspace.take<float>(tokens * (cols / 32)),
          workspace.take<float>(tokens * (cols / 16)), workspace.take<float>(tokens * (cols / 32)), cols};
}

// In one of five forms.
struct Activations {
  const float* floats = nullptr;
  QuantRows quant{};
  ByteRows bytes{};
  DigitRows digits{};
  SplitRows split{};
};

void multiply(const Linear& op, const Activations& x, size_t token, size_t count, size_t begin, size_t end, float* out,
              size_t stride) {
  if (x.split.tiles != nullptr) {
    auto* scratch = Workspace::local().take<uint16_t>(SplitRows::kScratch * op.weights.cols);
    kernels().linear_split(op.weights, x.split.from(token), count, begin, end, out, stride, scratch);
  } else if (x.digits.blocks != nullptr) {
    kernels().linear_digits(op.weights, {x.digits.at(token, 0), x.digits.cols}, count, begin, end, out, stride);
  } else if (op.in_bytes()) {
    kernels().linear_bytes(op.weights, x.bytes.from(token), count, begin, end, out, stride);
  } else if (!op.quantised()) {
    kernels().linear_float(op.weights, x.floats + token * op.weights.cols, count, begin, end, out, stride);
  } else {
    kernels().linear_quant(op.weights, x.quant.from(token), count, begin, end, out, stride);
  }
}

void plain_panels(const Linear& op, const Activations& x, size_t token, size_t count, size_t begin, size_t end,
                  const float* residual, float* out) {
  const size_t row = op.stride();
  const size_t first = begin * kPanel;
  const size_t last = std::min(end * kPanel, op.weights.rows);
  // The residual may be `out` itself: the product goes through a tile of its own then.
  float* target = out + token * row;
  size_t stride = row;
  Workspace& local = Workspace::local();
  local.reset();
  if (residual == out && residual != nullptr) {
    stride = (end - begin) * kPanel;
    target = local.take<float>(count * stride) - first;
  }
  multiply(op, x, token, count, begin, end, target, stride);
  for (size_t t = 0; t < count; ++t) {
    const float* y = target + t * stride;
    float* to = out + (token + t) * row;
    if (op.bias == nullptr && residual == nullptr) continue;
    for (size_t r = first; r < last; ++r) {
      float sum = y[r];
      if (op.bias != nullptr) sum += op.bias[r];
      if (residual != nullptr) sum += residual[(token + t) * row + r];
      to[r] = sum;
    }
  }
}

void gate_panels(const Linear& op, const Activations& x, size_t token, size_t count, size_t begin, size_t end,
                 const float* residual, float* out) {
  const size_t n = op.outputs();
  const size_t first = begin * kPanel;
  const size_t width = (end - begin) * kPanel;
  Workspace& local = Workspace::local();
  local.reset();
  float* gate = local.take<float>(count * width);
  float* up = local.take<float>(count * width);
  const size_t offset = n / kPanel;
  multiply(op, x, token, count, begin, end, gate - first, width);
  multiply(op, x, token, count, begin + offset, end + offset, up - first - n, width);
  auto* combine = op.activation == Activation::kSiluGate ? kernels().silu_gate : kernels().gelu_gate;
  for (size_t t = 0; t < count; ++t) {
    const size_t at = (token + t) * op.stride() + first;
    float* gated = residual == nullptr ? out + at : gate + t * width;  // the residual may be `out` itself
    combine(gate + t * width, up + t * width, width, gated);
    for (size_t r = 0; residual != nullptr && r < width; ++r) out[at + r] = gated[r] + residual[at + r];
  }
}

}  // namespace

Status Linear::validate() const {
  if (auto status = weights.validate(); !status.ok()) return status;
  if (!traits(weights.format).is_float && weights.cols % kBlock != 0)
    return invalid("quantised columns must be blocks of 32");
  if (activation == Activation::kNone) return {};
  if (weights.rows % (2 * kPanel) != 0) return invalid("a gate needs a multiple of 8 outputs");
  if (bias != nullptr) return invalid("a gate has no bias");
  return {};
}

Tiles Linear::tiles(size_t tokens) const {
  const KernelTable& table = kernels();
  if (exact || weights.cols % kBlock != 0 || table.linear_split == nullptr) return Tiles::kNone;
  if (!batch_invariant && tokens >= (quantised() ? kSplitTokens : kSplitTokensOfFloats)) return Tiles::kSplit;
  return quantised() && tokens >= DigitRows::worth(weights.format) ? Tiles::kDigits : Tiles::kNone;
}

const float* prepare_row(const Linear& op, const float* x, const LinearInput& input, size_t token) {
  const size_t cols = op.weights.cols;
  const float* row = x + token * cols;
  if (op.norm != nullptr) {
    float* normed = input.floats + token * cols;
    kernels().rms_norm(row, op.norm, cols, op.epsilon, normed);
    row = normed;
  }
  if (op.in_bytes()) {
    kernels().bytes(row, input.bytes.from(token));
  } else if (op.quantised()) {
    kernels().quantise(row, input.quant.from(token));
  }
  return row;
}

LinearInput allocate_input(const Linear& op, size_t tokens, Workspace& workspace) {
  return op.tiles(tokens) == Tiles::kNone ? take_input(op, tokens, workspace) : LinearInput();
}

LinearInput take_input(const Linear& op, size_t tokens, Workspace& workspace) {
  LinearInput input;
  if (op.norm != nullptr) input.floats = workspace.take<float>(tokens * op.weights.cols);
  if (op.in_bytes()) {
    input.bytes = block_rows<int8_t>(op.weights.cols, tokens, workspace);
  } else if (op.quantised()) {
    input.quant = block_rows<int16_t>(op.weights.cols, tokens, workspace);
  }
  return input;
}

namespace {

// Panels per piece: several pieces for each member of the crew, at least four panels each, which kernels take together.
size_t panel_grain(size_t panels, unsigned members) {
  return std::clamp<size_t>(panels / (size_t{members} * 3) / 4 * 4, 4, 64);
}

void run_panels(const Linear& op, const Activations& x, size_t token, size_t count, size_t begin, size_t end,
                const float* residual, float* out) {
  if (op.activation == Activation::kNone) {
    plain_panels(op, x, token, count, begin, end, residual, out);
  } else {
    gate_panels(op, x, token, count, begin, end, residual, out);
  }
}

// A thread's own tiles of the activations of one linear: reading another core's costs more than recomputing them.
struct OwnTiles {
  uint64_t run = 0;
  Workspace workspace;
  Activations made;

  void prepare(uint64_t wanted, const Linear& op, Tiles tiles, const float* x, size_t tokens) {
    if (run == wanted) return;
    const size_t cols = op.weights.cols;
    workspace.reset();
    made = {};
    if (tiles == Tiles::kSplit) {
      made.split = {workspace.take<uint16_t>(SplitRows::size(tokens, cols)), cols};
    } else {
      made.digits = {workspace.take<DigitBlock>(DigitRows::size(tokens, cols)), cols};
    }
    auto* normed = workspace.take<float>(cols);
    for (size_t t = 0; t < tokens; ++t) {
      const float* row = x + t * cols;
      if (op.norm != nullptr) {
        kernels().rms_norm(row, op.norm, cols, op.epsilon, normed);
        row = normed;
      }
      if (tiles == Tiles::kSplit) {
        kernels().split(row, made.split, t);
      } else {
        kernels().digits(row, made.digits, t);
      }
    }
    run = wanted;
  }
};

// The number of tokens whose tiles fit in the L2 cache together with a group of panels.
size_t tokens_at_once(Tiles tiles, size_t cols) {
  if (tiles == Tiles::kDigits) return DigitRows::kTokens;
  constexpr size_t kPair = 2 * SplitRows::kSide;
  return std::max(kTileBytes / (2 * sizeof(uint16_t) * cols) / kPair, size_t{1}) * kPair;
}

void run_tiles(Crew& crew, const Linear& op, Tiles tiles, const float* x, size_t tokens, const float* residual,
               float* out) {
  static std::atomic<uint64_t> runs{0};
  const size_t cols = op.weights.cols;
  const size_t panels = (op.outputs() + kPanel - 1) / kPanel;
  const size_t group = tokens_at_once(tiles, cols);
  for (size_t token = 0; token < tokens; token += group) {
    const size_t count = std::min(group, tokens - token);
    const uint64_t run = ++runs;
    crew.share(panels, panel_grain(panels, crew.count()), [&](size_t begin, size_t end) {
      thread_local OwnTiles own;
      own.prepare(run, op, tiles, x + token * cols, count);
      const float* added = residual == nullptr ? nullptr : residual + token * op.stride();
      run_panels(op, own.made, 0, count, begin, end, added, out + token * op.stride());
    });
  }
}

}  // namespace

void run_linear(Crew& crew, const Linear& op, const float* x, size_t tokens, const float* residual, float* out,
                const LinearInput& input) {
  if (const Tiles tiles = op.tiles(tokens); tiles != Tiles::kNone)
    return run_tiles(crew, op, tiles, x, tokens, residual, out);
  if (op.norm != nullptr || op.quantised())
    crew.share(tokens, 4, [&](size_t begin, size_t end) {
      for (size_t t = begin; t < end; ++t) prepare_row(op, x, input, t);
    });
  const Activations activations{op.norm != nullptr ? input.floats : x, input.quant, input.bytes};
  const size_t panels = (op.outputs() + kPanel - 1) / kPanel;
  const size_t grain = panel_grain(panels, crew.count());
  crew.share(panels, grain, [&](size_t from, size_t to) {
    for (size_t begin = from; begin < to; begin += grain)
      for (size_t token = 0; token < tokens; token += kTokenTile)
        run_panels(op, activations, token, std::min(kTokenTile, tokens - token), begin, std::min(begin + grain, to),
                   residual, out);
  });
}

namespace {

bool is_one(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && std::strcmp(value, "1") == 0;
}

}  // namespace

bool exact_by_default() { return is_one("COE_NATIVE_EXACT"); }

}  // namespace coe
