// Rotary position embedding, NeoX style: dimension i turns with i + dim / 2.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace coe {

// Cosines and sines of all positions, computed on demand in runs of 256. Safe for concurrent use.
class RopeTable {
 public:
  // `factors` (empty, or dim / 2) divide the frequencies: Llama 3.1's scaling.
  RopeTable(float theta, size_t dim, std::vector<float> factors);
  ~RopeTable();
  RopeTable(const RopeTable&) = delete;
  RopeTable& operator=(const RopeTable&) = delete;

  [[nodiscard]] size_t dim() const { return frequencies_.size() * 2; }
  // dim / 2 cosines, then dim / 2 sines.
  const float* at(int64_t position);

  static constexpr int64_t kMaxPosition = int64_t{1} << 22;

 private:
  static constexpr size_t kRun = 256;
  const float* make(size_t run);

  std::vector<double> frequencies_;
  std::vector<std::atomic<const float*>> runs_;
  std::mutex making_;
};

}  // namespace coe
