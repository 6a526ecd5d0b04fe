/* The C interface of libcoe_native. Every function that can fail returns a code (coe::Code, 0 is success); the message
 * for the calling thread is in coe_last_error(). The caller owns handles and must release each with the matching
 * *_close or *_release; the underlying object stays alive while a load or a bound op uses it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define COE_API __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

typedef struct coe_arena coe_arena;
typedef struct coe_load coe_load;
typedef struct coe_file coe_file;

typedef struct {
  uint64_t capacity, epoch;
  uint32_t slots, owner;
} coe_arena_info_t;

typedef struct {
  uint64_t generation, offset, nbytes, watermark, tag;
  uint32_t state, reserved;
} coe_slot_info_t;

/* nbytes 0: the whole file. prefix_slot -1: none. bytes_per_second 0: unthrottled. */
typedef struct {
  uint64_t tag, nbytes;
  double bytes_per_second;
  int32_t verify, prefix_slot;
  uint32_t threads, reserved;
} coe_load_options_t;

typedef struct {
  uint64_t generation, bytes_copied;
  int32_t code;
} coe_load_info_t;

COE_API const char* coe_last_error(void);
COE_API const char* coe_isa(void);
COE_API uint32_t coe_checksum(const void* data, size_t nbytes);
COE_API int coe_set_threads(unsigned threads);

COE_API int coe_arena_create(const char* name, uint64_t capacity, uint32_t slots, coe_arena** out);
COE_API int coe_arena_adopt(const char* name, uint64_t capacity, uint32_t slots, coe_arena** out);
COE_API int coe_arena_attach(const char* name, coe_arena** out);
COE_API int coe_arena_unlink(const char* name);
COE_API int coe_arena_info(const coe_arena* arena, coe_arena_info_t* out);
COE_API int coe_arena_slot(const coe_arena* arena, uint32_t slot, coe_slot_info_t* out);
COE_API int coe_arena_load(coe_arena* arena, uint32_t slot, uint64_t offset, coe_file* file,
                           const coe_load_options_t* options, coe_load** out);
COE_API int coe_arena_free(coe_arena* arena, uint32_t slot);
COE_API int coe_arena_bind(coe_arena* arena);
COE_API void coe_arena_close(coe_arena* arena);

/* coe_load_info stores the error of a failed load in coe_last_error(). */
COE_API int coe_load_info(coe_load* load, coe_load_info_t* out);
COE_API int coe_load_wait(coe_load* load, double seconds);
COE_API void coe_load_cancel(coe_load* load);
COE_API void coe_load_release(coe_load* load);

COE_API int coe_file_open(const char* path, const uint32_t* checksums, size_t count, uint64_t chunk_bytes,
                          coe_file** out);
COE_API uint64_t coe_file_nbytes(const coe_file* file);
COE_API int coe_file_lock(coe_file* file, int* locked);
COE_API void coe_file_close(coe_file* file);

#ifdef __cplusplus
}
#endif
