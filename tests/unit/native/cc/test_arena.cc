#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <fstream>
#include <thread>

#include "arena/binding.h"
#include "support.h"
#include "system_faults.h"

namespace coe::test {
namespace {
constexpr uint64_t kCapacity = 8 << 20;

// Takes the slot through LOADING to RESIDENT without copying.
uint64_t make_resident(const OwnArena& arena, uint32_t slot, uint64_t offset, uint64_t nbytes) {
  uint64_t generation = 0;
  EXPECT_TRUE(arena->begin_load(slot, offset, nbytes, generation).ok());
  arena->advance(slot, nbytes);
  arena->finish_load(slot, true);
  return generation;
}
}  // namespace

TEST(Arena, HasOneOwner) {
  const OwnArena arena(kCapacity);
  std::shared_ptr<Arena> second;
  EXPECT_EQ(Arena::create(arena.name(), kCapacity, 8, second).code(), Code::kBusy);
}

TEST(Arena, AnArenaWhoseOwnerIsGoneIsReplacedAndItsLeasesAreStale) {
  const std::string name = unique_name();
  std::shared_ptr<Arena> first;
  std::shared_ptr<Arena> reader;
  std::shared_ptr<Arena> second;
  ASSERT_OK(Arena::create(name, kCapacity, 8, first));
  ASSERT_OK(Arena::attach(name, reader));
  const uint64_t epoch = reader->epoch();
  first.reset();
  EXPECT_TRUE(reader->retired());
  ASSERT_OK(Arena::create(name, kCapacity, 8, second));
  EXPECT_NE(second->epoch(), epoch);
  ASSERT_OK(Arena::unlink(name));
}

TEST(Arena, OfTwoThatStartAtATimeOneOwnsIt) {
  const std::string name = unique_name();
  std::shared_ptr<Arena> first;
  ASSERT_OK(Arena::create(name, kCapacity, 8, first));
  first.reset();
  std::shared_ptr<Arena> second;
  {
    const BeforeUnlink meanwhile([&] {
      std::shared_ptr<Arena> third;
      EXPECT_EQ(Arena::create(name, kCapacity, 8, third).code(), Code::kBusy);
    });
    ASSERT_OK(Arena::create(name, kCapacity, 8, second));
  }
  std::shared_ptr<Arena> reader;
  ASSERT_OK(Arena::attach(name, reader));
  EXPECT_EQ(reader->epoch(), second->epoch());
  ASSERT_OK(Arena::unlink(name));
}

TEST(Arena, OfManyThatStartAtATimeOneOwnsIt) {
  const std::string name = unique_name();
  for (int round = 0; round < 20; ++round) {
    std::vector<std::shared_ptr<Arena>> arenas(4);
    std::vector<Code> codes(arenas.size());
    std::vector<std::thread> starters;
    for (size_t i = 0; i < arenas.size(); ++i)
      starters.emplace_back([&, i] { codes[i] = Arena::create(name, kCapacity, 8, arenas[i]).code(); });
    for (auto& starter : starters) starter.join();
    std::shared_ptr<Arena> reader;
    ASSERT_OK(Arena::attach(name, reader));
    for (size_t i = 0; i < arenas.size(); ++i) {
      ASSERT_EQ(codes[i], arenas[i] == nullptr ? Code::kBusy : Code::kOk);
      if (arenas[i] == nullptr) continue;
      ASSERT_EQ(reader->epoch(), arenas[i]->epoch());
    }
    ASSERT_EQ(std::count(codes.begin(), codes.end(), Code::kOk), 1);
  }
  ASSERT_OK(Arena::unlink(name));
}

TEST(Arena, WhatCannotBeReservedIsRefusedAndLeavesNothing) {
  std::shared_ptr<Arena> arena;
  for (const uint64_t capacity : {~uint64_t{0}, ~uint64_t{0} - kHugePage, (uint64_t{1} << 56) + 1})
    EXPECT_EQ(Arena::create(unique_name(), capacity, 8, arena).code(), Code::kInvalid);
  struct statvfs room{};
  ASSERT_EQ(statvfs("/dev/shm", &room), 0);
  for (const uint64_t capacity : {uint64_t{room.f_bavail} * room.f_frsize, uint64_t{1} << 50}) {
    const std::string name = unique_name();
    EXPECT_EQ(Arena::create(name, capacity, 8, arena).code(), Code::kSystem);
    EXPECT_EQ(Arena::attach(name, arena).code(), Code::kSystem);
  }
}

TEST(Arena, AnArenaThatWasClosedIsNotAdopted) {
  const std::string name = unique_name();
  std::shared_ptr<Arena> first;
  std::shared_ptr<Arena> second;
  EXPECT_EQ(Arena::adopt(name, kCapacity, 8, second).code(), Code::kSystem);
  ASSERT_OK(Arena::create(name, kCapacity, 8, first));
  EXPECT_EQ(Arena::adopt(name, kCapacity, 8, second).code(), Code::kBusy);
  first.reset();
  EXPECT_EQ(Arena::adopt(name, kCapacity, 8, second).code(), Code::kSystem);
  ASSERT_OK(Arena::unlink(name));
}

TEST(Arena, TheSuccessorOfADeadOwnerGoesOnWithWhatIsResident) {
  const std::string name = unique_name();
  uint64_t resident = 0;
  uint64_t loading = 0;
  if (const pid_t child = fork(); child == 0) {
    std::shared_ptr<Arena> arena;
    uint64_t generation = 0;
    const bool made = Arena::create(name, kCapacity, 8, arena).ok() &&
                      arena->begin_load(1, 0, 4096, generation, 77).ok() &&
                      arena->begin_load(2, 4096, 4096, generation, 78).ok();
    if (made) arena->finish_load(1, true);
    if (made) raise(SIGKILL);  // nothing is closed
    _exit(1);
  } else {
    int status = 1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << status;
  }
  std::shared_ptr<Arena> reader;
  ASSERT_OK(Arena::attach(name, reader));
  resident = reader->slot(1).generation.load();
  loading = reader->slot(2).generation.load();
  std::shared_ptr<Arena> arena;
  EXPECT_EQ(Arena::adopt(name, kCapacity / 2, 8, arena).code(), Code::kSystem);
  EXPECT_EQ(Arena::adopt(name, kCapacity, 4, arena).code(), Code::kSystem);
  ASSERT_OK(Arena::adopt(name, kCapacity, 8, arena));
  EXPECT_TRUE(arena->owner());
  EXPECT_EQ(arena->epoch(), reader->epoch());
  SlotInfo info{};
  ASSERT_OK(arena->info(1, info));
  EXPECT_EQ(info.state, static_cast<uint32_t>(SlotState::kResident));
  EXPECT_EQ(info.generation, resident);
  EXPECT_EQ(info.tag, 77U);
  ASSERT_OK(arena->info(2, info));
  EXPECT_EQ(info.state, static_cast<uint32_t>(SlotState::kFree));
  EXPECT_GT(info.generation, loading);
  ASSERT_OK(arena->free(1));
  ASSERT_OK(Arena::unlink(name));
}

TEST(Arena, RefusesWhatIsOutsideOrInUse) {
  const OwnArena arena(kCapacity, 4);
  uint64_t generation = 0;
  EXPECT_EQ(arena->begin_load(4, 0, 64, generation).code(), Code::kInvalid);
  EXPECT_EQ(arena->begin_load(0, 32, 64, generation).code(), Code::kInvalid);
  EXPECT_EQ(arena->begin_load(0, kCapacity, 64, generation).code(), Code::kInvalid);
  EXPECT_EQ(arena->begin_load(0, 64, kCapacity, generation).code(), Code::kInvalid);
  EXPECT_EQ(arena->begin_load(0, ~uint64_t{63}, 128, generation).code(), Code::kInvalid);
  make_resident(arena, 0, 0, 4096);
  EXPECT_EQ(arena->begin_load(0, 8192, 64, generation).code(), Code::kBusy);
  EXPECT_EQ(arena->begin_load(1, 4032, 128, generation).code(), Code::kBusy);
  ASSERT_OK(arena->begin_load(1, 4096, 128, generation));
  EXPECT_EQ(arena->free(1).code(), Code::kBusy);
  EXPECT_EQ(arena->free(2).code(), Code::kInvalid);
}

TEST(Arena, OnlyTheOwnerChangesIt) {
  const OwnArena arena(kCapacity);
  std::shared_ptr<Arena> reader;
  ASSERT_OK(Arena::attach(arena.name(), reader));
  uint64_t generation = 0;
  EXPECT_EQ(reader->begin_load(0, 0, 64, generation).code(), Code::kInvalid);
  EXPECT_EQ(reader->free(0).code(), Code::kInvalid);
}

TEST(Lease, LivesAsLongAsItsGeneration) {
  const OwnArena arena(kCapacity);
  bind_arena(*arena);
  const uint64_t generation = make_resident(arena, 2, 64, 4096);
  Lease lease;
  const uint8_t* bytes = nullptr;
  ASSERT_OK(Lease::resolve(lease_handle(2, generation), lease));
  ASSERT_OK(lease.bytes(0, 4096, bytes));
  EXPECT_EQ(bytes, arena->data() + 64);
  EXPECT_EQ(lease.bytes(1, 4096, bytes).code(), Code::kInvalid);
  EXPECT_EQ(lease.bytes(~uint64_t{0}, 2, bytes).code(), Code::kInvalid);
  ASSERT_OK(arena->free(2));
  EXPECT_EQ(lease.check().code(), Code::kStale);
  make_resident(arena, 2, 64, 4096);
  EXPECT_EQ(lease.check().code(), Code::kStale);
  Lease late;
  const Status stale = Lease::resolve(lease_handle(2, generation), late);
  EXPECT_EQ(stale.code(), Code::kStale);
  EXPECT_EQ(stale.message(), "stale lease");
  bind_arena(nullptr);
}

TEST(Lease, NeedsAnArenaAndASlot) {
  Lease lease;
  EXPECT_EQ(Lease::resolve(0, lease).code(), Code::kInvalid);
  const OwnArena arena(kCapacity, 2);
  bind_arena(*arena);
  EXPECT_EQ(Lease::resolve(lease_handle(2, 1), lease).code(), Code::kInvalid);
  EXPECT_EQ(Lease::resolve(lease_handle(1, 0), lease).code(),
            Code::kStale);  // free
  EXPECT_EQ(Lease::resolve(-1, lease).code(), Code::kInvalid);
  bind_arena(nullptr);
}

// Kilobytes of this process's mappings of `name` that are in huge pages.
static size_t huge_kilobytes(const std::string& name) {
  std::ifstream smaps("/proc/self/smaps");
  bool here = false;
  size_t total = 0;
  for (std::string line; std::getline(smaps, line);) {
    if (line.find('-') < line.find(' ')) here = line.find(name) != std::string::npos;  // a mapping's first line
    if (here && line.starts_with("ShmemPmdMapped:")) total += std::stoul(line.substr(15));
  }
  return total;
}

// A huge page is mapped as one when it is next touched.
static void touch(const Arena& arena, uint8_t expected) {
  for (uint64_t at = 0; at < arena.capacity(); at += 4096) ASSERT_EQ(arena.data()[at], expected);
}

static bool has_huge_pages(const Arena& arena) { return madvise(arena.data(), kHugePage, 25 /* MADV_COLLAPSE */) == 0; }

TEST(Arena, IsOfHugePagesFromTheStart) {
  const FewThreads none(0);  // that could make them later
  const OwnArena arena(uint64_t{8} << 20);
  if (!has_huge_pages(**arena)) GTEST_SKIP() << "no huge pages to be had";
  touch(**arena, 0);
  EXPECT_GE(huge_kilobytes(arena.name()), 8192U);
}

// What an owner leaves that was killed with an arena of small pages, full of sevens. False: there are no others.
static bool leave_small_pages(const std::string& name, uint64_t bytes) {
  if (const pid_t child = fork(); child != 0) {
    int status = 1;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    const bool none = WIFEXITED(status) && WEXITSTATUS(status) == 2;
    EXPECT_TRUE(none || WIFSIGNALED(status)) << status;
    if (none) {
      EXPECT_TRUE(Arena::unlink(name).ok());
    }
    return !none;
  }
  std::shared_ptr<Arena> arena;
  if (!Arena::create(name, bytes, 8, arena).ok()) _exit(1);
  if (!has_huge_pages(*arena)) _exit(2);
  if (madvise(arena->data(), bytes, MADV_NOHUGEPAGE) != 0 || madvise(arena->data(), bytes, MADV_REMOVE) != 0) _exit(1);
  std::fill_n(arena->data(), bytes, uint8_t{7});
  if (huge_kilobytes(name) >= bytes >> 10) _exit(1);
  raise(SIGKILL);
  _exit(1);
}

TEST(Arena, MovesIntoHugePagesWhileItIsUsed) {
  constexpr uint64_t kBytes = uint64_t{8} << 20;
  const std::string name = unique_name();
  if (!leave_small_pages(name, kBytes)) GTEST_SKIP() << "no huge pages to be had";
  std::shared_ptr<Arena> arena;
  ASSERT_OK(Arena::adopt(name, kBytes, 8, arena));
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (huge_kilobytes(name) < kBytes >> 10 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    touch(*arena, 7);
  }
  EXPECT_GE(huge_kilobytes(name), kBytes >> 10);
  ASSERT_OK(Arena::unlink(name));
}

TEST(Arena, WithoutAThreadItKeepsSmallPages) {
  constexpr uint64_t kBytes = uint64_t{8} << 20;
  const std::string name = unique_name();
  if (!leave_small_pages(name, kBytes)) GTEST_SKIP() << "no huge pages to be had";
  const FewThreads none(0);
  std::shared_ptr<Arena> arena;
  ASSERT_OK(Arena::adopt(name, kBytes, 8, arena));
  touch(*arena, 7);
  ASSERT_OK(Arena::unlink(name));
}

}  // namespace coe::test
