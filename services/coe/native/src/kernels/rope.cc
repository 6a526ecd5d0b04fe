#include "kernels/rope.h"

#include <cmath>

namespace coe {

RopeTable::RopeTable(float theta, size_t dim, std::vector<float> factors)
    : frequencies_(dim / 2), runs_(static_cast<size_t>(kMaxPosition) / kRun) {
  for (size_t i = 0; i < frequencies_.size(); ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(dim);
    frequencies_[i] =
        std::pow(static_cast<double>(theta), exponent) / (factors.empty() ? 1.0 : static_cast<double>(factors[i]));
  }
}

RopeTable::~RopeTable() {
  for (auto& run : runs_) delete[] run.load();
}

const float* RopeTable::at(int64_t position) {
  const auto index = static_cast<size_t>(position);
  const float* run = runs_[index / kRun].load(std::memory_order_acquire);
  if (run == nullptr) run = make(index / kRun);
  return run + index % kRun * dim();
}

const float* RopeTable::make(size_t run) {
  const std::lock_guard lock(making_);
  if (const float* made = runs_[run].load(std::memory_order_acquire)) return made;
  const size_t half = frequencies_.size();
  auto* values = new float[kRun * dim()];
  for (size_t p = 0; p < kRun; ++p)
    for (size_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(run * kRun + p) * frequencies_[i];
      values[p * dim() + i] = static_cast<float>(std::cos(angle));
      values[p * dim() + half + i] = static_cast<float>(std::sin(angle));
    }
  runs_[run].store(values, std::memory_order_release);
  return values;
}

}  // namespace coe
