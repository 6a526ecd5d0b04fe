// CRC-32C (Castagnoli), the checksum of a chunk of weights.coe.
#pragma once

#include <cstddef>
#include <cstdint>

namespace coe {

uint32_t crc32c(const uint8_t* data, size_t nbytes, uint32_t crc = 0);
// Table-based version for any machine.
uint32_t crc32c_portable(const uint8_t* data, size_t nbytes, uint32_t crc = 0);

}  // namespace coe
