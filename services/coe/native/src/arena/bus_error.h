// Survives failed reads of mapped files, for which the kernel sends SIGBUS: the disk failed, or the file was truncated.
#pragma once

#include <type_traits>

namespace coe {

// Installs the handler that survives_bus_error() needs. Other bus errors go to the previous handler.
void expect_bus_errors();

bool survives_bus_error(void (*read)(void*), void* argument);

// Runs `read`; false if a page could not be read. `read` may then stop at any instruction, so it must hold no locks and
// have nothing to destroy.
template <class F>
[[nodiscard]] bool survives_bus_error(F&& read) {
  using Read = std::remove_reference_t<F>;
  return survives_bus_error([](void* argument) { (*static_cast<Read*>(argument))(); }, &read);
}

}  // namespace coe
