// The ops of domain ai.coe.tiered (OPS.md): each finds its weights through the lease, runs a kernel, and checks the
// lease again before it returns its result.
#pragma once

#include "kernels/attention.h"
#include "ops/ort.h"
#include "ops/weights.h"

namespace coe::ops {

// Attention with its options. run() appends to the KV cache and attends, with the weights of a lease's expert.
struct AttentionAt {
  AttentionShape shape;
  int64_t q_norm_offset = kAbsent;
  int64_t k_norm_offset = kAbsent;
  std::shared_ptr<RopeTable> rope;

  Status init(Attributes& attributes);
  Status run(Crew& crew, unsigned threads, const Lease& lease, const Step& step, const KvCache& kv, const float* qkv,
             float* out, Workspace& workspace) const;
};

// out = rms_norm(x) * weight (+ residual), rows of `cols`.
void norm_rows(const float* x, const float* weight, size_t tokens, size_t cols, float epsilon, const float* residual,
               float* out);

// The calling thread's scratch memory, reset for a node that runs on its own.
Workspace& run_workspace();

class TieredEmbedding {
 public:
  static constexpr const char* kName = "TieredEmbedding";
  static constexpr std::array kInputs{kInts, kInts};
  static constexpr std::array kOutputs{kFloats};
  Status init(Attributes& attributes);
  Status compute(const Context& context) const;

 private:
  MatrixAt matrix_;
  float scale_ = 1;
};

class TieredRMSNorm {
 public:
  static constexpr const char* kName = "TieredRMSNorm";
  static constexpr std::array kInputs{kInts, kFloats, kMaybeFloats};
  static constexpr std::array kOutputs{kFloats};
  Status init(Attributes& attributes);
  Status compute(const Context& context) const;

 private:
  int64_t offset_ = 0;
  size_t cols_ = 0;
  float epsilon_ = 0;
};

class TieredLinear {
 public:
  static constexpr const char* kName = "TieredLinear";
  static constexpr std::array kInputs{kInts, kFloats, kMaybeFloats};
  static constexpr std::array kOutputs{kFloats};
  Status init(Attributes& attributes) { return linear_.init(attributes); }
  Status compute(const Context& context) const;

 private:
  LinearAt linear_;
};

// Common to both heads: a linear for selected rows of x, and a softcap on its results.
struct HeadAt {
  LinearAt linear;
  float softcap = 0;

  Status init(Attributes& attributes);
  // Copies the rows of x (input 1) that input 2 selects to `rows` [count, cols].
  Status choose(const Context& context, Workspace& workspace, const float*& rows, size_t& count) const;
};

class TieredLMHead {
 public:
  static constexpr const char* kName = "TieredLMHead";
  static constexpr std::array kInputs{kInts, kFloats, kInts};
  static constexpr std::array kOutputs{kFloats};
  Status init(Attributes& attributes) { return head_.init(attributes); }
  Status compute(const Context& context) const;

 private:
  HeadAt head_;
};

// Returns the token with the highest logit, and that logit.
class TieredGreedyHead {
 public:
  static constexpr const char* kName = "TieredGreedyHead";
  static constexpr std::array kInputs{kInts, kFloats, kInts};
  static constexpr std::array kOutputs{kInts, kFloats};
  Status init(Attributes& attributes) { return head_.init(attributes); }
  Status compute(const Context& context) const;

 private:
  HeadAt head_;
};

class PagedAttention {
 public:
  static constexpr const char* kName = "PagedAttention";
  static constexpr std::array kInputs{kInts, kFloats, kInts, kInts, kInts, kAny};
  static constexpr std::array kOutputs{kFloats};
  Status init(Attributes& attributes) { return attention_.init(attributes); }
  Status compute(const Context& context) const;

 private:
  AttentionAt attention_;
};

// One transformer layer.
struct LayerAt {
  std::vector<LinearAt> qkv;  // one matrix, or three if their formats differ
  AttentionAt attention;
  LinearAt attention_output;
  LinearAt gate_up;
  LinearAt down;
  int64_t post_attention_norm_offset = kAbsent;
  int64_t post_feed_forward_norm_offset = kAbsent;
  float epsilon = 0;

  [[nodiscard]] size_t width() const { return down.shape.outputs(); }
  Status init(Attributes& attributes, const std::string& prefix);
  // x and out [tokens, width] may be the same buffer.
  Status run(const Lease& lease, const Step& step, const KvCache& kv, const float* x, float* out) const;
};

// Several layers as one node. Between nodes, ONNX Runtime reads data that the weights have evicted from the caches:
// for a small model, that costs a twentieth of a step.
class TieredLayers {
 public:
  static constexpr const char* kName = "TieredLayers";
  static constexpr std::array kInputs{kInts, kFloats, kInts, kInts, kInts, kAny};
  static constexpr std::array kOutputs{kFloats};
  static constexpr int64_t kMostLayers = 4096;
  Status init(Attributes& attributes);
  Status compute(const Context& context) const;

 private:
  std::vector<LayerAt> layers_;
};

// Inputs `first` .. `first + 3` of an op with attention: positions, sequence_ids, block_table, kv.
Status read_step(const Context& context, size_t first, size_t tokens, const AttentionShape& shape, Step& step,
                 KvCache& kv);

// The rotary table for (theta, dim, factors), shared by all nodes of the process.
std::shared_ptr<RopeTable> shared_rope(float theta, size_t dim, const std::vector<float>& factors);

}  // namespace coe::ops
