// Rotary embedding and paged attention with a grouped-query KV cache, run by a team.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/status.h"
#include "base/team.h"
#include "base/workspace.h"
#include "kernels/rope.h"
#include "kernels/table.h"

namespace coe {

struct AttentionShape {
  size_t layer = 0;
  size_t heads = 0, kv_heads = 0, head_dim = 0;
  size_t block_size = 0;
  float scale = 1;
  int64_t window = 0;
  float softcap = 0;
  float epsilon = 0;

  [[nodiscard]] size_t group() const { return heads / kv_heads; }
  [[nodiscard]] size_t qkv_width() const { return (heads + 2 * kv_heads) * head_dim; }
  [[nodiscard]] Status validate() const;
};

// The KV cache [layers, blocks, 2, kv_heads, block_size, kv_row(type, head_dim)]; keys are transposed within a block.
struct KvCache {
  void* data = nullptr;
  KvType type = KvType::kF32;
  size_t layers = 0, blocks = 0;
};

// The tokens of a step, flattened; those of one sequence are contiguous with ascending positions.
struct Step {
  size_t tokens = 0;
  const int64_t* positions = nullptr;
  const int64_t* sequence_ids = nullptr;
  const int64_t* block_table = nullptr;  // [sequences, table_width]
  size_t sequences = 0, table_width = 0;
};

// How the work of one step is split; the same for all layers of a model.
class AttentionPlan {
 public:
  // Checks positions, sequences and blocks, so that the kernels don't have to.
  Status build(const AttentionShape& shape, const Step& step, const KvCache& kv, unsigned threads);

  struct Task {
    size_t token, tokens;         // query tokens
    size_t kv_head, head, heads;  // query heads [head, head + heads)
    int64_t begin, end;           // positions
    size_t row, chunk;            // of the sums, where its own begin
    size_t chunks;                // of its tokens and heads, in all tasks
    bool first, apart;            // of the tasks that these positions are split between; whether there are others
  };
  // Tokens of one sequence, and their tasks [first, last).
  struct Run {
    size_t token, tokens;
    size_t first, last;
  };
  [[nodiscard]] const std::vector<Task>& tasks() const { return tasks_; }
  [[nodiscard]] const std::vector<Run>& runs() const { return runs_; }
  // Whether any token's positions are split between tasks.
  [[nodiscard]] bool split() const { return split_; }
  // Of the sums: rows of values, and chunks with a maximum and a sum of weights a row.
  [[nodiscard]] size_t rows() const { return rows_; }
  [[nodiscard]] size_t chunks() const { return chunks_; }
  [[nodiscard]] size_t products() const { return products_; }  // of a query and a key

 private:
  std::vector<Run> runs_;
  std::vector<Task> tasks_;
  bool split_ = false;
  size_t rows_ = 0;
  size_t chunks_ = 0;
  size_t products_ = 0;
};

struct AttentionWeights {
  const float* q_norm = nullptr;  // [head_dim]
  const float* k_norm = nullptr;
};

struct AttentionScratch {
  float* q;  // [kv_heads, tokens, group, head_dim]
  // out [rows, head_dim], maximum and sum [chunks, kMaxRows]: a line for each, because threads write them at the same
  // time.
  AttentionSums sums;
};
AttentionScratch allocate_attention(const AttentionShape& shape, const AttentionPlan& plan, size_t tokens,
                                    Workspace& workspace);

// Appends K and V of all tokens to the cache and attends: qkv [tokens, qkv_width], out [tokens, heads * head_dim].
void run_attention(Crew& crew, const AttentionShape& shape, const AttentionPlan& plan, const AttentionWeights& weights,
                   RopeTable& rope, const Step& step, const KvCache& kv, const float* qkv, float* out,
                   const AttentionScratch& scratch);

}  // namespace coe
