// weights.coe, mapped read-only; once locked, it is the expert's copy in the DDR tier.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"

namespace coe {

class WeightsFile {
 public:
  // `checksums`: one CRC-32C per chunk. Empty: nothing can be verified.
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

  // Reads the file into memory and locks it. `locked` is false if the lock limit forbids that: the pages are then in
  // memory, but the kernel may evict them.
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
