#include <cstring>

#include "arena/binding.h"
#include "arena/crc32c.h"
#include "arena/load.h"
#include "support.h"
#include "system_faults.h"

namespace coe::test {
namespace {
constexpr uint64_t kChunk = 256 << 10;
constexpr size_t kBytes = 5 * kChunk + 12345;
constexpr uint64_t kCapacity = 8 << 20;
constexpr double kDeadline = 30;

std::shared_ptr<WeightsFile> open_file(TemporaryFile& file) {
  std::vector<uint32_t> sums;
  for (size_t at = 0; at < file.bytes().size(); at += kChunk)
    sums.push_back(crc32c(file.bytes().data() + at, std::min<size_t>(kChunk, file.bytes().size() - at)));
  std::shared_ptr<WeightsFile> opened;
  const Status status = WeightsFile::open(file.path(), sums, kChunk, opened);
  EXPECT_TRUE(status.ok()) << status.message();
  return opened;
}
}  // namespace

TEST(Load, CopiesEveryByteVerifiedOrNot) {
  TemporaryFile file(kBytes);
  const OwnArena arena(kCapacity);
  for (const bool verify : {true, false}) {
    std::shared_ptr<Load> load;
    ASSERT_OK(Load::start(*arena, 0, 4096, open_file(file), {verify, 2, 0}, load));
    ASSERT_TRUE(load->wait(kDeadline));
    ASSERT_OK(load->result());
    EXPECT_EQ(load->bytes_copied(), kBytes);
    EXPECT_EQ(std::memcmp(arena->data() + 4096, file.bytes().data(), kBytes), 0);
    SlotInfo info{};
    ASSERT_OK(arena->info(0, info));
    EXPECT_EQ(info.state, static_cast<uint32_t>(SlotState::kResident));
    EXPECT_EQ(info.watermark, kBytes);
    EXPECT_EQ(info.generation, load->generation());
    ASSERT_OK(arena->free(0));
  }
}

TEST(Load, AWrongChecksumEndsTheGeneration) {
  TemporaryFile file(kBytes);
  auto opened = open_file(file);
  file.bytes()[3 * kChunk + 17] ^= 1;
  file.write();
  const OwnArena arena(kCapacity);
  std::shared_ptr<Load> load;
  ASSERT_OK(Load::start(*arena, 0, 0, opened, {}, load));
  ASSERT_TRUE(load->wait(kDeadline));
  EXPECT_EQ(load->result().code(), Code::kCorrupt);
  SlotInfo info{};
  ASSERT_OK(arena->info(0, info));
  EXPECT_EQ(info.state, static_cast<uint32_t>(SlotState::kFree));
  EXPECT_NE(info.generation, load->generation());
}

TEST(Load, AFileThatIsCutIsAnErrorOfItsLoadOnly) {
  for (const bool verify : {true, false}) {
    TemporaryFile file(kBytes);
    const OwnArena arena(kCapacity);
    auto opened = open_file(file);
    ASSERT_EQ(truncate(file.path().c_str(), 3 * kChunk), 0);
    for (int again = 0; again < 2; ++again) {
      std::shared_ptr<Load> load;
      ASSERT_OK(Load::start(*arena, 0, 0, opened, {verify, 2, 0}, load));
      ASSERT_TRUE(load->wait(kDeadline));
      EXPECT_EQ(load->result().code(), Code::kSystem) << load->result().message();
    }
    TemporaryFile whole(kBytes);
    std::shared_ptr<Load> load;
    ASSERT_OK(Load::start(*arena, 0, 0, open_file(whole), {verify, 2, 0}, load));
    ASSERT_TRUE(load->wait(kDeadline));
    ASSERT_OK(load->result());
  }
}

TEST(Load, CancelFreesTheSlotAndWakesReaders) {
  TemporaryFile file(kBytes);
  const OwnArena arena(kCapacity);
  bind_arena(*arena);
  std::shared_ptr<Load> load;
  ASSERT_OK(Load::start(*arena, 0, 0, open_file(file), {true, 2, 1.0},
                        load));  // a byte a second: it never gets far
  Lease lease;
  ASSERT_OK(Lease::resolve(lease_handle(0, load->generation()), lease));
  std::thread reader([&] {
    const uint8_t* bytes = nullptr;
    EXPECT_EQ(lease.bytes(0, kBytes, bytes).code(), Code::kStale);
  });
  while (load->bytes_copied() == 0) std::this_thread::yield();
  load->cancel();
  ASSERT_TRUE(load->wait(kDeadline));
  reader.join();
  EXPECT_EQ(load->result().code(), Code::kBusy);
  SlotInfo info{};
  ASSERT_OK(arena->info(0, info));
  EXPECT_EQ(info.state, static_cast<uint32_t>(SlotState::kFree));
  bind_arena(nullptr);
}

TEST(Load, AReaderGetsTheFirstBytesBeforeTheLast) {
  TemporaryFile file(kBytes);
  const OwnArena arena(kCapacity);
  bind_arena(*arena);
  std::shared_ptr<Load> load;
  ASSERT_OK(Load::start(*arena, 0, 0, open_file(file), {true, 1, 1.0}, load));
  Lease lease;
  const uint8_t* bytes = nullptr;
  ASSERT_OK(Lease::resolve(lease_handle(0, load->generation()), lease));
  ASSERT_OK(lease.bytes(0, 1000, bytes));
  EXPECT_FALSE(load->wait(0));
  EXPECT_EQ(std::memcmp(bytes, file.bytes().data(), 1000), 0);
  bind_arena(nullptr);
}

TEST(Load, APrefixIsLoadedAloneAndThenTakenFromItsSlot) {
  TemporaryFile file(kBytes);
  auto opened = open_file(file);
  const OwnArena arena(kCapacity);
  std::shared_ptr<Load> first;
  ASSERT_OK(Load::start(*arena, 0, 0, opened, {.verify = true, .tag = 7, .nbytes = 2 * kChunk}, first));
  ASSERT_TRUE(first->wait(kDeadline));
  ASSERT_OK(first->result());
  SlotInfo info{};
  ASSERT_OK(arena->info(0, info));
  EXPECT_EQ(info.nbytes, 2 * kChunk);
  EXPECT_EQ(info.tag, 7U);
  std::shared_ptr<Load> whole;
  ASSERT_OK(Load::start(*arena, 1, 2 << 20, opened, {.verify = true, .tag = 7, .prefix_slot = 0}, whole));
  ASSERT_TRUE(whole->wait(kDeadline));
  ASSERT_OK(whole->result());
  EXPECT_EQ(whole->bytes_copied(), kBytes - 2 * kChunk);
  EXPECT_EQ(std::memcmp(arena->data() + (2 << 20), file.bytes().data(), kBytes), 0);
  ASSERT_OK(arena->info(1, info));
  EXPECT_EQ(info.watermark, kBytes);
}

TEST(Load, APrefixIsNotThrottledAndTheRestIs) {
  TemporaryFile file(kBytes);
  auto opened = open_file(file);
  const OwnArena arena(kCapacity);
  std::shared_ptr<Load> load;
  ASSERT_OK(Load::start(*arena, 0, 0, opened, {.tag = 7, .nbytes = 4 * kChunk}, load));
  ASSERT_TRUE(load->wait(kDeadline));
  // A byte a second: the first unit of the rest comes at once, no more.
  ASSERT_OK(Load::start(*arena, 1, 2 << 20, opened, {.threads = 1, .bytes_per_second = 1.0, .tag = 7, .prefix_slot = 0},
                        load));
  SlotInfo info{};
  while (info.watermark < 5 * kChunk) ASSERT_OK(arena->info(1, info));
  EXPECT_FALSE(load->wait(0));
  EXPECT_EQ(load->bytes_copied(), kChunk);
}

TEST(Load, GoesOnWithTheThreadsThatThereAre) {
  TemporaryFile file(kBytes);
  auto opened = open_file(file);
  const OwnArena arena(kCapacity);
  std::shared_ptr<Load> load;
  {
    const FewThreads few(1);
    ASSERT_OK(Load::start(*arena, 0, 0, opened, {.threads = 3}, load));
  }
  ASSERT_TRUE(load->wait(kDeadline));
  ASSERT_OK(load->result());
  EXPECT_EQ(std::memcmp(arena->data(), file.bytes().data(), kBytes), 0);
}

TEST(Load, WithoutAnyThreadTheSlotIsFreeAgain) {
  TemporaryFile file(kBytes);
  auto opened = open_file(file);
  const OwnArena arena(kCapacity);
  std::shared_ptr<Load> load;
  {
    const FewThreads none(0);
    EXPECT_EQ(Load::start(*arena, 0, 0, opened, {.threads = 2}, load).code(), Code::kSystem);
  }
  SlotInfo info{};
  ASSERT_OK(arena->info(0, info));
  EXPECT_EQ(info.state, static_cast<uint32_t>(SlotState::kFree));
  ASSERT_OK(Load::start(*arena, 0, 0, opened, {.threads = 2}, load));
  ASSERT_TRUE(load->wait(kDeadline));
  ASSERT_OK(load->result());
}

TEST(Load, RefusesPartsAndPrefixesThatDoNotFit) {
  TemporaryFile file(kBytes);
  auto opened = open_file(file);
  const OwnArena arena(kCapacity);
  std::shared_ptr<Load> load;
  EXPECT_EQ(Load::start(*arena, 0, 0, opened, {.nbytes = kBytes + 1}, load).code(), Code::kInvalid);
  EXPECT_EQ(Load::start(*arena, 0, 0, opened, {.nbytes = kChunk + 1}, load).code(), Code::kInvalid);
  EXPECT_EQ(Load::start(*arena, 0, 0, opened, {.prefix_slot = 1}, load).code(), Code::kInvalid);
  ASSERT_OK(Load::start(*arena, 1, 2 << 20, opened, {.tag = 7, .nbytes = kChunk}, load));
  ASSERT_TRUE(load->wait(kDeadline));
  EXPECT_EQ(Load::start(*arena, 0, 0, opened, {.tag = 8, .prefix_slot = 1}, load).code(), Code::kInvalid);
}

TEST(WeightsFile, RefusesAnotherSizeAndWhatIsNotThere) {
  TemporaryFile file(kBytes);
  std::shared_ptr<WeightsFile> opened;
  EXPECT_EQ(WeightsFile::open(file.path(), {1, 2}, kChunk, opened).code(), Code::kCorrupt);
  EXPECT_EQ(WeightsFile::open(file.path(), {}, 100, opened).code(), Code::kInvalid);
  EXPECT_EQ(WeightsFile::open("/nonexistent/weights.coe", {}, kChunk, opened).code(), Code::kSystem);
  const TemporaryFile empty(0);
  EXPECT_EQ(WeightsFile::open(empty.path(), {}, kChunk, opened).code(), Code::kCorrupt);
}

TEST(WeightsFile, LocksOrSaysThatItMayNot) {
  TemporaryFile file(kBytes);
  auto opened = open_file(file);
  bool locked = false;
  ASSERT_OK(opened->lock(locked));
}

}  // namespace coe::test
