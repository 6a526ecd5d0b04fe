#include "arena/weights_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace coe {

Status WeightsFile::open(const std::string& path, std::vector<uint32_t> checksums, uint64_t chunk_bytes,
                         std::shared_ptr<WeightsFile>& out) {
  if (chunk_bytes == 0 || chunk_bytes % 64 != 0) return invalid("chunk_bytes must be a multiple of 64");
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return system_error(path, errno);
  struct stat facts{};
  Status status = fstat(fd, &facts) == 0 ? Status() : system_error(path, errno);
  const auto nbytes = static_cast<uint64_t>(facts.st_size);
  if (status.ok() && nbytes == 0) status = {Code::kCorrupt, path + " is empty"};
  if (status.ok() && !checksums.empty() && checksums.size() != (nbytes + chunk_bytes - 1) / chunk_bytes)
    status = {Code::kCorrupt, path + " has another size than its checksums say"};
  void* base = status.ok() ? mmap(nullptr, nbytes, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
  if (status.ok() && base == MAP_FAILED) status = system_error("mapping " + path, errno);
  ::close(fd);
  if (!status.ok()) return status;
  out.reset(new WeightsFile());
  out->path_ = path;
  out->data_ = static_cast<const uint8_t*>(base);
  out->nbytes_ = nbytes;
  out->chunk_bytes_ = chunk_bytes;
  out->checksums_ = std::move(checksums);
  return {};
}

WeightsFile::~WeightsFile() {
  if (data_ != nullptr) munmap(const_cast<uint8_t*>(data_), nbytes_);
}

Status WeightsFile::lock(bool& locked) {
  locked = mlock(data_, nbytes_) == 0;
  if (locked) return {};
  if (errno != EPERM && errno != ENOMEM && errno != EAGAIN) return system_error("locking " + path_, errno);
#if defined(MADV_POPULATE_READ)
  // Kernels before 5.14 don't support it; the only other failure is an unreadable page.
  if (madvise(const_cast<uint8_t*>(data_), nbytes_, MADV_POPULATE_READ) != 0 && errno != EINVAL)
    return system_error("reading " + path_, errno);
#else
  madvise(const_cast<uint8_t*>(data_), nbytes_, MADV_WILLNEED);
#endif
  return {};
}

}  // namespace coe
