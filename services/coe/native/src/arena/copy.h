// The copy between tiers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace coe {

// memcpy with streaming stores, which don't read the destination into the cache first. Complete when it returns.
// `to` must be 16-byte aligned.
void stream_copy(uint8_t* to, const uint8_t* from, size_t nbytes);

}  // namespace coe
