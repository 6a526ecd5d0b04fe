// Scratch memory that is reused between calls: a bump allocator that only grows.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

namespace coe {

class Workspace {
 public:
  // Releases everything taken. If the last round needed several pieces, they are merged into one.
  void reset() {
    if (pieces_.size() > 1) {
      const size_t total = total_;
      pieces_.clear();
      total_ = 0;
      grow(total);
    }
    used_ = 0;
  }

  // n uninitialised values, 64-byte aligned, valid until reset().
  template <class T>
  T* take(size_t n) {
    static_assert(std::is_trivial_v<T>);
    const size_t nbytes = (n * sizeof(T) + 63) / 64 * 64;
    if (pieces_.empty() || used_ + nbytes > pieces_.back().size) {
      grow(std::max(nbytes, size_t{1} << 16));
      used_ = 0;
    }
    auto* at = pieces_.back().data.get() + used_;
    used_ += nbytes;
    return reinterpret_cast<T*>(at);
  }

  // The calling thread's own, for values that no other thread reads.
  static Workspace& local() {
    thread_local Workspace workspace;
    return workspace;
  }

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  struct Piece {
    std::unique_ptr<std::byte[], Free> data;
    size_t size;
  };

  void grow(size_t nbytes) {
    const size_t size = (nbytes + 63) / 64 * 64;
    auto* memory = static_cast<std::byte*>(std::aligned_alloc(64, size));
    if (memory == nullptr) throw std::bad_alloc();
    pieces_.push_back({std::unique_ptr<std::byte[], Free>(memory), size});
    total_ += size;
  }

  std::vector<Piece> pieces_;
  size_t used_ = 0;
  size_t total_ = 0;
};

}  // namespace coe
