// The C interface of arena, file and load. No exception crosses it.
#include <algorithm>
#include <exception>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "arena/arena.h"
#include "arena/binding.h"
#include "arena/crc32c.h"
#include "arena/load.h"
#include "arena/weights_file.h"
#include "base/cpu.h"
#include "base/team.h"
#include "coe/native.h"

struct coe_arena {
  std::shared_ptr<coe::Arena> value;
};
struct coe_load {
  std::shared_ptr<coe::Load> value;
};
struct coe_file {
  std::shared_ptr<coe::WeightsFile> value;
};

namespace {

thread_local std::string last_error;

int report(const coe::Status& status) {
  last_error = status.message();
  return static_cast<int>(status.code());
}

// Runs f, which returns a Status, and converts its exceptions (out of memory, out of threads) to one.
template <class F>
int guarded(F&& f) {
  try {
    return report(f());
  } catch (const std::exception& error) {
    last_error = error.what();
  } catch (...) {
    last_error = "unknown failure";
  }
  return static_cast<int>(coe::Code::kInternal);
}

template <class Handle, class Value>
coe::Status wrap(coe::Status status, std::shared_ptr<Value> value, Handle** out) {
  if (status.ok()) *out = new Handle{std::move(value)};
  return status;
}

}  // namespace

const char* coe_last_error(void) { return last_error.c_str(); }

const char* coe_isa(void) {
  constexpr const char* names[] = {"portable", "avx2", "avx512", "amx"};
  static_assert(std::size(names) == static_cast<size_t>(coe::Isa::kAmx) + 1);
  return names[static_cast<int>(coe::best_isa())];
}

uint32_t coe_checksum(const void* data, size_t nbytes) {
  return coe::crc32c(static_cast<const uint8_t*>(data), nbytes);
}

int coe_set_threads(unsigned threads) {
  return guarded([&]() -> coe::Status {
    if (threads == 0 || threads > 1024) return coe::invalid("threads must be 1 to 1024");
    coe::set_team_threads(threads);
    return {};
  });
}

int coe_arena_create(const char* name, uint64_t capacity, uint32_t slots, coe_arena** out) {
  return guarded([&] {
    std::shared_ptr<coe::Arena> arena;
    auto status = coe::Arena::create(name, capacity, slots, arena);
    return wrap(std::move(status), std::move(arena), out);
  });
}

int coe_arena_adopt(const char* name, uint64_t capacity, uint32_t slots, coe_arena** out) {
  return guarded([&] {
    std::shared_ptr<coe::Arena> arena;
    auto status = coe::Arena::adopt(name, capacity, slots, arena);
    return wrap(std::move(status), std::move(arena), out);
  });
}

int coe_arena_attach(const char* name, coe_arena** out) {
  return guarded([&] {
    std::shared_ptr<coe::Arena> arena;
    auto status = coe::Arena::attach(name, arena);
    return wrap(std::move(status), std::move(arena), out);
  });
}

int coe_arena_unlink(const char* name) {
  return guarded([&] { return coe::Arena::unlink(name); });
}

int coe_arena_info(const coe_arena* arena, coe_arena_info_t* out) {
  *out = {arena->value->capacity(), arena->value->epoch(), arena->value->slots(), arena->value->owner() ? 1U : 0U};
  return 0;
}

int coe_arena_slot(const coe_arena* arena, uint32_t slot, coe_slot_info_t* out) {
  return guarded([&] {
    coe::SlotInfo info{};
    auto status = arena->value->info(slot, info);
    *out = {info.generation, info.offset, info.nbytes, info.watermark, info.tag, info.state, 0};
    return status;
  });
}

int coe_arena_load(coe_arena* arena, uint32_t slot, uint64_t offset, coe_file* file, const coe_load_options_t* options,
                   coe_load** out) {
  return guarded([&] {
    std::shared_ptr<coe::Load> load;
    const coe::LoadOptions wanted{options->verify != 0, options->threads, options->bytes_per_second,
                                  options->tag,         options->nbytes,  options->prefix_slot};
    auto status = coe::Load::start(arena->value, slot, offset, file->value, wanted, load);
    return wrap(std::move(status), std::move(load), out);
  });
}

int coe_arena_free(coe_arena* arena, uint32_t slot) {
  return guarded([&] { return arena->value->free(slot); });
}

int coe_arena_bind(coe_arena* arena) {
  return guarded([&]() -> coe::Status {
    coe::bind_arena(arena->value);
    return {};
  });
}

void coe_arena_close(coe_arena* arena) {
  // Loads and a binding may keep the mapping, but its contents are invalid once the owner has closed it.
  if (arena->value->owner()) arena->value->retire();
  delete arena;
}

int coe_load_info(coe_load* load, coe_load_info_t* out) {
  *out = {load->value->generation(), load->value->bytes_copied(), report(load->value->result())};
  return 0;
}

int coe_load_wait(coe_load* load, double seconds) { return load->value->wait(std::max(0.0, seconds)) ? 1 : 0; }
void coe_load_cancel(coe_load* load) { load->value->cancel(); }
void coe_load_release(coe_load* load) { delete load; }

int coe_file_open(const char* path, const uint32_t* checksums, size_t count, uint64_t chunk_bytes, coe_file** out) {
  return guarded([&] {
    std::shared_ptr<coe::WeightsFile> file;
    std::vector<uint32_t> sums(checksums, checksums + count);
    auto status = coe::WeightsFile::open(path, std::move(sums), chunk_bytes, file);
    return wrap(std::move(status), std::move(file), out);
  });
}

uint64_t coe_file_nbytes(const coe_file* file) { return file->value->nbytes(); }

int coe_file_lock(coe_file* file, int* locked) {
  return guarded([&] {
    bool held = false;
    auto status = file->value->lock(held);
    *locked = held ? 1 : 0;
    return status;
  });
}

void coe_file_close(coe_file* file) { delete file; }
