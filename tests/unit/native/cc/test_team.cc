#include "base/team.h"
#include "support.h"
#include "system_faults.h"

namespace coe::test {

TEST(Team, SharesEveryPieceOnceOverManyLoops) {
  for (const unsigned threads : {1U, 2U, 4U}) {
    Team team(threads);
    Crew crew(team);
    std::vector<int> hits(1000);
    for (int loop = 0; loop < 300; ++loop)
      crew.share(hits.size(), 7, [&](size_t begin, size_t end) {
        for (size_t i = begin; i < end; ++i) ++hits[i];
      });
    for (const int hit : hits) ASSERT_EQ(hit, 300);
  }
}

TEST(Team, ALoopSeesWhatTheOneBeforeItWrote) {
  Team team(3);
  Crew crew(team);
  std::vector<int> values(64, 0);
  std::atomic<int> wrong{0};
  for (int step = 1; step <= 300; ++step) {
    crew.share(values.size(), 1, [&](size_t i, size_t) { values[i] = step; });
    crew.share(values.size(), 1, [&](size_t i, size_t) { wrong += values[values.size() - 1 - i] != step ? 1 : 0; });
  }
  EXPECT_EQ(wrong, 0);
}

TEST(Team, ASecondCallerWorksAlone) {
  Team team(2);
  const Crew first(team);
  const Crew second(team);
  EXPECT_EQ(first.count(), 2U);
  EXPECT_EQ(second.count(), 1U);
}

TEST(Team, EmptyAndTinyLoops) {
  Team team(2);
  Crew crew(team);
  int calls = 0;
  crew.share(0, 4, [&](size_t, size_t) { ++calls; });
  EXPECT_EQ(calls, 0);
  crew.share(3, 4, [&](size_t begin, size_t end) { calls += static_cast<int>(end - begin); });
  EXPECT_EQ(calls, 3);
}

TEST(Team, CallersFromManyThreads) {
  Team team(2);
  std::atomic<uint64_t> sum{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i)
    callers.emplace_back([&] {
      for (int round = 0; round < 200; ++round)
        Crew(team).share(64, 4, [&](size_t begin, size_t end) { sum += end - begin; });
    });
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(sum, 4U * 200U * 64U);
}

TEST(Team, WhatAPieceThrowsComesOutOnceNobodyUsesTheLoopAnyMore) {
  Team team(3);
  Crew crew(team);
  const auto driver = std::this_thread::get_id();
  for (const bool of_driver : {true, false}) {
    std::atomic<int> done{0};
    std::atomic<bool> thrown{false};
    const auto body = [&](size_t, size_t) {
      // Neither the driver nor the helpers take all pieces.
      if ((std::this_thread::get_id() == driver) != of_driver) {
        while (!thrown) std::this_thread::yield();
      }
      ++done;
      thrown = true;
      throw std::bad_alloc();
    };
    EXPECT_THROW(crew.share(64, 1, body), std::bad_alloc);
    EXPECT_EQ(done, 64);
  }
  int calls = 0;
  crew.share(1, 1, [&](size_t, size_t) { ++calls; });
  std::atomic<int> pieces{0};
  crew.share(64, 1, [&](size_t, size_t) { ++pieces; });
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(pieces, 64);
}

TEST(Team, WithoutEnoughThreadsThereIsTheFormerOne) {
  set_team_threads(2);
  {
    const FewThreads few(2);
    EXPECT_THROW(set_team_threads(8), std::system_error);
    EXPECT_THROW(set_team_threads(4), std::system_error);
  }
  EXPECT_EQ(process_team()->threads(), 2U);
  set_team_threads(3);
  EXPECT_EQ(process_team()->threads(), 3U);
  set_team_threads(1);
}

}  // namespace coe::test
