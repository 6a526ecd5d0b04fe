// weights.coe mapped read-only: the DDR tier when it is locked.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"

namespace coe {

class WeightsFile {
 public:
  // `checksums` has one CRC-32C a chunk, or is empty: then nothing can be verified.
  static Status open(const std::string& path, std::vector<uint32_t> checksums, uint64_t chunk_bytes,
                     std::shared_ptr<WeightsFile>& out);
  ~WeightsFile();
  WeightsFile(const WeightsFile&) = delete;
  WeightsFile& operator=(const WeightsFile&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] const uint8_t* data() const { return data_; }
  [[nodiscard]] uint64_t nbytes() const { return nbytes_; }
  [[nodiscard]] uint64_t chunk_bytes() const { return chunk_bytes_; }
  [[nodiscard]] bool has_checksums() const { return !checksums_.empty(); }
  [[nodiscard]] uint32_t checksum(uint64_t chunk) const { return checksums_[chunk]; }

  // Reads the file in and locks it. `locked` is false when the lock limit forbids it: the pages are then in memory but
  // the kernel may drop them.
  Status lock(bool& locked);

 private:
  WeightsFile() = default;
  std::string path_;
  const uint8_t* data_ = nullptr;
  uint64_t nbytes_ = 0;
  uint64_t chunk_bytes_ = 0;
  std::vector<uint32_t> checksums_;
};

}  // namespace coe
