// Reads of mapped files that fail: the disk is broken, or the file was cut. The kernel answers with SIGBUS.
#pragma once

#include <type_traits>

namespace coe {

// The process survives what survives_bus_error() runs from now on; other bus errors go where they went before.
void expect_bus_errors();

bool survives_bus_error(void (*read)(void*), void* argument);

// Runs `read`; false when a page could not be had. It may end at any instruction then: no locks, nothing to destroy.
template <class F>
[[nodiscard]] bool survives_bus_error(F&& read) {
  using Read = std::remove_reference_t<F>;
  return survives_bus_error([](void* argument) { (*static_cast<Read*>(argument))(); }, &read);
}

}  // namespace coe
