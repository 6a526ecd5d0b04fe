#include "arena/crc32c.h"

#include <array>
#include <cstring>

#include "base/cpu.h"

namespace coe {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // reflected

constexpr std::array<uint32_t, 256> byte_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    table[i] = crc;
  }
  return table;
}
constexpr auto kBytes = byte_table();

#if defined(__x86_64__)
// The instruction has a latency of 3 cycles, so three lanes run in parallel. They are combined by the linear map that
// appends kLane zero bytes to a message.
constexpr size_t kLane = 2048;
// Prefetches: the three streams restart every kLane bytes, which hardware prefetchers notice too late.
constexpr size_t kAhead = 4 * 3 * kLane;

class AppendLane {
 public:
  AppendLane() {
    std::array<uint32_t, 32> images{};
    for (unsigned bit = 0; bit < 32; ++bit) {
      uint32_t crc = 1U << bit;
      for (size_t i = 0; i < kLane; ++i) crc = kBytes[crc & 255] ^ (crc >> 8);
      images[bit] = crc;
    }
    for (unsigned byte = 0; byte < 4; ++byte)
      for (uint32_t value = 0; value < 256; ++value) {
        uint32_t sum = 0;
        for (unsigned bit = 0; bit < 8; ++bit)
          if ((value >> bit & 1) != 0) sum ^= images[byte * 8 + bit];
        table_[byte][value] = sum;
      }
  }
  uint32_t operator()(uint64_t crc) const {
    return table_[0][crc & 255] ^ table_[1][crc >> 8 & 255] ^ table_[2][crc >> 16 & 255] ^ table_[3][crc >> 24 & 255];
  }

 private:
  std::array<std::array<uint32_t, 256>, 4> table_{};
};

uint64_t load64(const uint8_t* data) {
  uint64_t word = 0;
  std::memcpy(&word, data, sizeof word);
  return word;
}

__attribute__((target("sse4.2"))) uint32_t crc32c_sse42(const uint8_t* data, size_t nbytes, uint32_t start) {
  static const AppendLane append;
  uint64_t crc = ~start;
  for (; nbytes >= 3 * kLane; data += 3 * kLane, nbytes -= 3 * kLane) {
    uint64_t b = 0;
    uint64_t c = 0;
    for (size_t i = 0; i < kLane; i += 8) {
      if (i % 64 == 0)
        for (size_t lane = 0; lane < 3; ++lane) __builtin_prefetch(data + kAhead + lane * kLane + i);
      crc = __builtin_ia32_crc32di(crc, load64(data + i));
      b = __builtin_ia32_crc32di(b, load64(data + kLane + i));
      c = __builtin_ia32_crc32di(c, load64(data + 2 * kLane + i));
    }
    crc = append(append(crc) ^ b) ^ c;
  }
  for (; nbytes >= 8; data += 8, nbytes -= 8) crc = __builtin_ia32_crc32di(crc, load64(data));
  auto rest = static_cast<uint32_t>(crc);
  for (; nbytes != 0; ++data, --nbytes) rest = __builtin_ia32_crc32qi(rest, *data);
  return ~rest;
}
#endif

}  // namespace

uint32_t crc32c_portable(const uint8_t* data, size_t nbytes, uint32_t crc) {
  crc = ~crc;
  for (size_t i = 0; i < nbytes; ++i) crc = kBytes[(crc ^ data[i]) & 255] ^ (crc >> 8);
  return ~crc;
}

uint32_t crc32c(const uint8_t* data, size_t nbytes, uint32_t crc) {
#if defined(__x86_64__)
  if (has_sse42()) return crc32c_sse42(data, nbytes, crc);
#endif
  return crc32c_portable(data, nbytes, crc);
}

}  // namespace coe
