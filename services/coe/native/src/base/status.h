// The result of every function of the native library that can fail; no exception crosses the C ABI.
#pragma once

#include <string>
#include <utility>

namespace coe {

// Values are part of the C ABI (coe.native._library maps them to exceptions).
enum class Code : int {
  kOk = 0,
  kInvalid = 1,   // an argument is out of range or of the wrong kind
  kSystem = 2,    // a system call failed: no memory, no such file, ...
  kBusy = 3,      // the slot or the arena is in use
  kStale = 4,     // the lease's generation is no longer the slot's
  kTimeout = 5,   // a bounded wait timed out
  kCorrupt = 6,   // a checksum or header does not match
  kInternal = 7,  // a bug
};

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  [[nodiscard]] bool ok() const { return code_ == Code::kOk; }
  [[nodiscard]] Code code() const { return code_; }
  [[nodiscard]] const std::string& message() const { return message_; }

 private:
  Code code_ = Code::kOk;
  std::string message_;
};

inline Status invalid(std::string message) { return {Code::kInvalid, std::move(message)}; }

// A failed system call: `what` and errno's text.
Status system_error(const std::string& what, int error);

}  // namespace coe
