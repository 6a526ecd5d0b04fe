#include "kernels/attention.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <type_traits>

namespace coe {
namespace {

constexpr int64_t kChunk = AttentionTile::kChunk;
constexpr int64_t kAlign = 16;     // positions a tile's range starts at a multiple of
constexpr size_t kLittle = 40960;  // products of queries and keys
constexpr size_t kPlaced = 16;     // tokens stored together: avoids false sharing of a block's cache lines

void rotate(const float* x, const float* table, size_t rope_dim, size_t head_dim, float scale, float* out) {
  const size_t half = rope_dim / 2;
  const float* cosine = table;
  const float* sine = table + half;
  for (size_t i = 0; i < half; ++i) {
    const float a = x[i];
    const float b = x[i + half];
    out[i] = (a * cosine[i] - b * sine[i]) * scale;
    out[i + half] = (b * cosine[i] + a * sine[i]) * scale;
  }
  for (size_t i = rope_dim; i < head_dim; ++i) out[i] = x[i] * scale;
}

// Elements of one head's keys or values in a block, and of a block.
size_t part_elements(const AttentionShape& s, KvType type) { return kv_row(type, s.head_dim) * s.block_size; }
size_t block_elements(const AttentionShape& s, KvType type) { return 2 * s.kv_heads * part_elements(s, type); }

// One token's place in a head's parts of a block.
template <class T>
struct Place {
  T* keys;
  T* values;
  size_t slot;

  // Both are in the cache's type.
  void fill(const AttentionShape& s, const T* k, const T* v) const {
    for (size_t d = 0; d < s.head_dim; ++d) keys[d * s.block_size + slot] = k[d];
    std::copy_n(v, s.head_dim, values + slot * s.head_dim);
  }
};

// Rounds x [n] to eight bits relative to its largest value, and returns the step size: NaN if one of the values is not
// a number.
float to_bytes(const float* x, size_t n, int8_t* out) {
  constexpr float kMost = 127;
  constexpr float kMagic = 12582912;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  float largest = 0;
  float check = 0;
  for (size_t i = 0; i < n; ++i) {
    largest = std::max(largest, std::abs(x[i]));
    check += x[i] - x[i];
  }
  const float inverse = largest > 0 ? kMost / largest : 0;
  for (size_t i = 0; i < n; ++i) out[i] = static_cast<int8_t>(std::bit_cast<int32_t>(x[i] * inverse + kMagic));
  return (largest + check) / kMost;
}

}  // namespace

Status AttentionShape::validate() const {
  constexpr size_t kMostHeads = size_t{1} << 16;  // widths are products of it
  if (heads > kMostHeads) return invalid("num_heads is at most 65536");
  if (heads == 0 || kv_heads == 0 || heads % kv_heads != 0)
    return invalid("num_heads must be a multiple of num_kv_heads");
  if (head_dim == 0 || head_dim % 16 != 0 || head_dim > AttentionTile::kMaxHeadDim)
    return invalid("head_dim must be a multiple of 16, up to 1024");
  if (block_size == 0 || block_size % 16 != 0) return invalid("block_size must be a multiple of 16");
  return {};
}

Status AttentionPlan::build(const AttentionShape& shape, const Step& step, const KvCache& kv, unsigned threads) {
  tasks_.clear();
  rows_ = 0;
  chunks_ = 0;
  products_ = 0;
  if (shape.layer >= kv.layers) return invalid("the kv cache has no layer " + std::to_string(shape.layer));
  runs_.clear();
  for (size_t t = 0; t < step.tokens; ++t) {
    const int64_t sequence = step.sequence_ids[t];
    const int64_t position = step.positions[t];
    const auto width = static_cast<int64_t>(step.table_width * shape.block_size);
    if (sequence < 0 || static_cast<size_t>(sequence) >= step.sequences)
      return invalid("sequence_ids leave the block table");
    if (position < 0 || position >= std::min(width, RopeTable::kMaxPosition))
      return invalid("a position leaves its block table");
    if (!runs_.empty() && sequence == step.sequence_ids[t - 1]) {
      if (position <= step.positions[t - 1]) return invalid("positions of a sequence must ascend");
      ++runs_.back().tokens;
    } else {
      runs_.push_back({t, 1, 0, 0});
    }
  }
  for (const Run& run : runs_) {
    const size_t last = run.token + run.tokens - 1;
    const int64_t* row = step.block_table + static_cast<size_t>(step.sequence_ids[last]) * step.table_width;
    const auto used = static_cast<size_t>(step.positions[last]) / shape.block_size + 1;
    int64_t first = shape.window > 0 ? std::max<int64_t>(0, step.positions[run.token] - shape.window + 1) : 0;
    for (auto b = static_cast<size_t>(first) / shape.block_size; b < used; ++b)
      if (row[b] < 0 || static_cast<size_t>(row[b]) >= kv.blocks)
        return invalid("a block table entry leaves the kv cache");
  }
  const size_t group = shape.group();
  const size_t heads = std::min(group, AttentionTile::kMaxRows);
  const size_t tile = heads == group ? std::max<size_t>(1, AttentionTile::kMaxRows / group) : 1;
  size_t pieces = 0;
  for (const Run& run : runs_)
    pieces += (run.tokens + tile - 1) / tile * shape.kv_heads * ((group + heads - 1) / heads);
  const size_t wanted = threads > 1 ? std::max<size_t>(1, 4 * threads / std::max<size_t>(1, pieces)) : 1;
  split_ = false;
  for (Run& run : runs_) {
    run.first = tasks_.size();
    for (size_t token = run.token; token < run.token + run.tokens; token += tile) {
      const size_t count = std::min(tile, run.token + run.tokens - token);
      const int64_t oldest = shape.window > 0 ? std::max<int64_t>(0, step.positions[token] - shape.window + 1) : 0;
      const int64_t begin = oldest / kAlign * kAlign;
      const int64_t end = step.positions[token + count - 1] + 1;
      // Split at the ends of chunks, so that the bits don't change.
      const size_t chunks = AttentionTile::chunks(begin, end);
      const size_t part = std::max<size_t>(1, chunks / wanted);
      const bool apart = part < chunks && end - begin >= 2 * kChunk;
      split_ = split_ || apart;
      for (size_t kv_head = 0; kv_head < shape.kv_heads; ++kv_head)
        for (size_t head = kv_head * group; head < (kv_head + 1) * group; head += heads) {
          const size_t width = std::min(heads, (kv_head + 1) * group - head);
          for (int64_t from = begin; from < end;) {
            const int64_t behind = (from / kChunk + static_cast<int64_t>(part)) * kChunk;
            const int64_t until = apart ? std::min(behind, end) : end;
            tasks_.push_back(
                {token, count, kv_head, head, width, from, until, rows_, chunks_, chunks, from == begin, apart});
            const size_t sums = apart ? AttentionTile::chunks(from, until) : 1;
            rows_ += sums * count * width;
            chunks_ += sums;
            products_ += count * width * static_cast<size_t>(until - from);
            from = until;
          }
        }
    }
    run.last = tasks_.size();
  }
  return {};
}

AttentionScratch allocate_attention(const AttentionShape& shape, const AttentionPlan& plan, size_t tokens,
                                    Workspace& workspace) {
  return {workspace.take<float>(tokens * shape.heads * shape.head_dim),
          {workspace.take<float>(plan.rows() * shape.head_dim),
           workspace.take<float>(plan.chunks() * AttentionTile::kMaxRows),
           workspace.take<float>(plan.chunks() * AttentionTile::kMaxRows)}};
}

namespace {

// q [kv_head][token][group][head_dim], rotated and scaled; K and V of the token into the cache.
void place_token(const AttentionShape& s, const AttentionWeights& w, RopeTable& rope, const Step& step,
                 const KvCache& kv, const float* qkv, size_t t, float* q) {
  const float* row = qkv + t * s.qkv_width();
  const float* table = rope.at(step.positions[t]);
  const size_t group = s.group();
  float normed[1024];
  float turned[1024];
  uint16_t halves[2 * 1024];
  int8_t bytes[2 * 1024];
  const auto prepare = [&](const float* x, const float* norm) {
    if (norm == nullptr) return x;
    kernels().rms_norm(x, norm, s.head_dim, s.epsilon, normed);
    return static_cast<const float*>(normed);
  };
  const auto position = static_cast<size_t>(step.positions[t]);
  const int64_t* blocks = step.block_table + static_cast<size_t>(step.sequence_ids[t]) * step.table_width;
  const size_t start =
      (s.layer * kv.blocks + static_cast<size_t>(blocks[position / s.block_size])) * block_elements(s, kv.type);
  const size_t part = part_elements(s, kv.type);
  const auto place = [&](auto* cache, size_t head) {
    auto* block = cache + start;
    return Place<std::remove_pointer_t<decltype(cache)>>{block + head * part, block + (s.kv_heads + head) * part,
                                                         position % s.block_size};
  };
  for (size_t head = 0; head < s.heads; ++head) {
    float* to = q + ((head / group * step.tokens + t) * group + head % group) * s.head_dim;
    rotate(prepare(row + head * s.head_dim, w.q_norm), table, rope.dim(), s.head_dim, s.scale, to);
  }
  for (size_t head = 0; head < s.kv_heads; ++head) {
    const float* k = row + (s.heads + head) * s.head_dim;
    const float* v = row + (s.heads + s.kv_heads + head) * s.head_dim;
    rotate(prepare(k, w.k_norm), table, rope.dim(), s.head_dim, 1.0F, turned);
    if (kv.type == KvType::kF32) {
      place(static_cast<float*>(kv.data), head).fill(s, turned, v);
    } else if (kv.type == KvType::kF16) {
      kernels().to_halves(turned, s.head_dim, halves);
      kernels().to_halves(v, s.head_dim, halves + s.head_dim);
      place(static_cast<uint16_t*>(kv.data), head).fill(s, halves, halves + s.head_dim);
    } else {
      const auto at = place(static_cast<int8_t*>(kv.data), head);
      const float k_scale = to_bytes(turned, s.head_dim, bytes);
      const float v_scale = to_bytes(v, s.head_dim, bytes + s.head_dim);
      at.fill(s, bytes, bytes + s.head_dim);
      const size_t behind = s.head_dim * s.block_size + at.slot * sizeof(float);
      std::memcpy(at.keys + behind, &k_scale, sizeof k_scale);
      std::memcpy(at.values + behind, &v_scale, sizeof v_scale);
    }
  }
}

AttentionSums sums_from(const AttentionSums& all, const AttentionShape& s, size_t row, size_t chunk) {
  return {all.out + row * s.head_dim, all.maximum + chunk * AttentionTile::kMaxRows,
          all.sum + chunk * AttentionTile::kMaxRows};
}

void attend(const AttentionShape& s, const AttentionPlan::Task& task, const Step& step, const KvCache& kv,
            const AttentionScratch& scratch) {
  const size_t group = s.group();
  int64_t positions[AttentionTile::kMaxRows];
  for (size_t row = 0; row < task.tokens * task.heads; ++row)
    positions[row] = step.positions[task.token + row / task.heads];
  AttentionTile tile{};
  tile.q =
      scratch.q + ((task.kv_head * step.tokens + task.token) * group + (task.head - task.kv_head * group)) * s.head_dim;
  tile.positions = positions;
  tile.rows = task.tokens * task.heads;
  tile.head_dim = s.head_dim;
  const size_t part = part_elements(s, kv.type);
  const size_t layer_elements = s.layer * kv.blocks * block_elements(s, kv.type);
  tile.kv = static_cast<const char*>(kv.data) + layer_elements * kv_bytes(kv.type);
  tile.type = kv.type;
  tile.blocks = step.block_table + static_cast<size_t>(step.sequence_ids[task.token]) * step.table_width;
  tile.block_stride = block_elements(s, kv.type);
  tile.k_offset = task.kv_head * part;
  tile.v_offset = (s.kv_heads + task.kv_head) * part;
  tile.block_size = s.block_size;
  tile.begin = task.begin;
  tile.end = task.end;
  tile.window = s.window;
  tile.softcap = s.softcap;
  tile.apart = task.apart;
  tile.to = sums_from(scratch.sums, s, task.row, task.chunk);
  kernels().attention(tile);
}

// Joins the sums of a task and of those after it for the same tokens and heads, and divides by the sums of weights.
void finish(const AttentionShape& s, const AttentionPlan::Task& first, const AttentionScratch& scratch, float* out) {
  const size_t rows = first.tokens * first.heads;
  const AttentionSums whole = sums_from(scratch.sums, s, first.row, first.chunk);
  for (size_t i = 1; first.apart && i < first.chunks; ++i)
    kernels().join_sums(whole, sums_from(scratch.sums, s, first.row + i * rows, first.chunk + i), rows, s.head_dim);
  for (size_t row = 0; row < rows; ++row) {
    float* to =
        out + (first.token + row / first.heads) * s.heads * s.head_dim + (first.head + row % first.heads) * s.head_dim;
    const float inverse = 1.0F / whole.sum[row];
    for (size_t d = 0; d < s.head_dim; ++d) to[d] = whole.out[row * s.head_dim + d] * inverse;
  }
}

}  // namespace

void run_attention(Crew& crew, const AttentionShape& shape, const AttentionPlan& plan, const AttentionWeights& weights,
                   RopeTable& rope, const Step& step, const KvCache& kv, const float* qkv, float* out,
                   const AttentionScratch& scratch) {
  const auto& tasks = plan.tasks();
  const auto place_tokens = [&](size_t begin, size_t end) {
    for (size_t t = begin; t < end; ++t) place_token(shape, weights, rope, step, kv, qkv, t, scratch.q);
  };
  const auto attend_tasks = [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      attend(shape, tasks[i], step, kv, scratch);
      if (!tasks[i].apart) finish(shape, tasks[i], scratch, out);
    }
  };
  // Decoding: one thread processes a token from beginning to end. That is safe only when every sequence has a single
  // token: then no sequence attends to blocks that another one fills in the same step (coe.experts.step_plan).
  if (!plan.split() && plan.runs().size() == step.tokens && step.tokens >= crew.count()) {
    crew.share(plan.runs().size(), 1, [&](size_t begin, size_t end) {
      place_tokens(plan.runs()[begin].token, plan.runs()[end - 1].token + 1);
      attend_tasks(plan.runs()[begin].first, plan.runs()[end - 1].last);
    });
    return;
  }
  crew.share(step.tokens, kPlaced, place_tokens);
  // A little work is done sooner than another thread is woken.
  const size_t grain = plan.products() * shape.head_dim < kLittle ? tasks.size() : 1;
  crew.share(tasks.size(), grain, attend_tasks);
  if (!plan.split()) return;
  crew.share(tasks.size(), 1, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i)
      if (tasks[i].apart && tasks[i].first) finish(shape, tasks[i], scratch, out);
  });
}

}  // namespace coe
