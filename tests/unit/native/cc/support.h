// What the tests of the native library share.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "arena/arena.h"
#include "arena/weights_file.h"
#include "base/cpu.h"

namespace coe::test {

#define ASSERT_OK(expression)                                              \
  do {                                                                     \
    const ::coe::Status status_ = (expression);                            \
    ASSERT_TRUE(status_.ok()) << #expression << ": " << status_.message(); \
  } while (false)

inline std::vector<Isa> instruction_sets() {
  std::vector<Isa> sets;
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512, Isa::kAmx})
    if (has_isa(isa)) sets.push_back(isa);
  return sets;
}

inline std::vector<float> random_floats(size_t n, unsigned seed, float spread = 1.0F) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0.0F, spread);
  std::vector<float> values(n);
  for (auto& value : values) value = normal(engine);
  return values;
}

inline std::string unique_name() {
  static int count = 0;
  return "coe-test-" + std::to_string(getpid()) + "-" + std::to_string(count++);
}

// An arena that is gone when the test is.
class OwnArena {
 public:
  explicit OwnArena(uint64_t capacity, uint32_t slots = 8) : name_(unique_name()) {
    const Status status = Arena::create(name_, capacity, slots, arena_);
    EXPECT_TRUE(status.ok()) << status.message();
  }
  ~OwnArena() { EXPECT_TRUE(Arena::unlink(name_).ok()); }
  OwnArena(const OwnArena&) = delete;
  OwnArena& operator=(const OwnArena&) = delete;
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const std::shared_ptr<Arena>& operator*() const { return arena_; }
  [[nodiscard]] Arena* operator->() const { return arena_.get(); }

 private:
  std::string name_;
  std::shared_ptr<Arena> arena_;
};

// A file of random bytes.
class TemporaryFile {
 public:
  explicit TemporaryFile(size_t nbytes, unsigned seed = 1) : path_("/tmp/" + unique_name()), bytes_(nbytes) {
    std::mt19937 engine(seed);
    for (auto& byte : bytes_) byte = static_cast<uint8_t>(engine());
    write();
  }
  ~TemporaryFile() { std::remove(path_.c_str()); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  void write() const {
    std::ofstream(path_, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes_.data()), static_cast<std::streamsize>(bytes_.size()));
  }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::vector<uint8_t>& bytes() { return bytes_; }

 private:
  std::string path_;
  std::vector<uint8_t> bytes_;
};

}  // namespace coe::test
