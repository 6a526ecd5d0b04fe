#include <numeric>

#include "base/team.h"
#include "support.h"

namespace coe::test {

TEST(Team, SharesEveryPieceOnceOverManyLoops) {
  Team team(3);
  std::vector<int> hits(1000);
  for (int round = 0; round < 20; ++round) {
    std::fill(hits.begin(), hits.end(), 0);
    team.run([&](Member& member) {
      for (int loop = 0; loop < 5; ++loop) {
        member.share(hits.size(), 7, [&](size_t begin, size_t end) {
          for (size_t i = begin; i < end; ++i) ++hits[i];
        });
        member.barrier();
      }
    });
    for (const int hit : hits) ASSERT_EQ(hit, 5);
  }
}

TEST(Team, BarrierShowsWhatOthersWrote) {
  Team team(4);
  std::vector<int> values(4, 0);
  std::atomic<int> wrong{0};
  team.run([&](Member& member) {
    for (int step = 1; step <= 200; ++step) {
      values[member.index()] = step;
      member.barrier();
      for (const int value : values) wrong += value != step ? 1 : 0;
      member.barrier();
    }
  });
  EXPECT_EQ(wrong, 0);
}

TEST(Team, ASecondCallerWorksAlone) {
  Team team(2);
  std::atomic<int> counts[2] = {0, 0};
  team.run([&](Member& outer) {
    if (outer.index() != 0) return;
    team.run([&](Member& inner) { counts[inner.count() == 1 ? 1 : 0]++; });
  });
  EXPECT_EQ(counts[0], 0);
  EXPECT_EQ(counts[1], 1);
}

TEST(Team, FewerMembersThanThreads) {
  Team team(4);
  std::atomic<int> members{0};
  team.run([&](Member& member) { members += member.count() == 2 ? 1 : 0; }, 2);
  EXPECT_EQ(members, 2);
}

TEST(Team, CallersFromManyThreads) {
  Team team(2);
  std::atomic<uint64_t> sum{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i)
    callers.emplace_back([&] {
      for (int round = 0; round < 200; ++round)
        team.run([&](Member& member) { member.share(64, 4, [&](size_t begin, size_t end) { sum += end - begin; }); });
    });
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(sum, 4U * 200U * 64U);
}

}  // namespace coe::test
