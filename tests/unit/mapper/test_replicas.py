"""Cold experts pack, hot ones spread, queues even out, and nobody runs after one view all at once."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from coe.mapper.replicas import (
    Choice,
    Cluster,
    Replicas,
    Rule,
    in_share,
    partition_of,
    pick_replica,
    places_of,
    replica_count,
)

RULE = Rule(queued_per_replica=16, max_replicas=4, load_worth=16, slack=4)
FOUR = {partition: f"w{partition % 4}" for partition in range(64)}
experts = st.sampled_from([f"expert-{number}" for number in range(12)])
workers = st.sampled_from(sorted(set(FOUR.values())))
clusters = st.builds(
    Cluster,
    st.just(64),
    st.just(FOUR),
    st.dictionaries(workers, st.dictionaries(experts, st.integers(1, 60), max_size=6)),
    st.dictionaries(workers, st.frozensets(experts, max_size=6)),
)


def replicas(cluster: Cluster, rule: Rule = RULE) -> Replicas:
    made = Replicas(rule)
    made.saw(cluster)
    return made


def worker_of(choice: Choice) -> str:
    assert choice.partition is not None
    return FOUR[choice.partition]


def first_place(expert: str) -> str:
    return places_of(expert, 64, FOUR)[0].worker


def test_one_more_for_each_full_queue() -> None:
    counts = [replica_count(queued, per_replica=16, most=3) for queued in (0, 15, 16, 32, 1000)]
    assert counts == [1, 1, 2, 3, 3]


@given(st.text(), st.integers(1, 64))
def test_a_pick_is_a_replica_and_the_same_each_time(affinity: str, count: int) -> None:
    replica = pick_replica(affinity, count)
    assert 0 <= replica < count
    assert replica == pick_replica(affinity, count)


def test_picks_are_even() -> None:
    picks = Counter(pick_replica(f"request-{number}", 4) for number in range(4000))
    assert min(picks.values()) > 850


def test_shares_are_kept_and_their_ends_are_exact() -> None:
    names = [f"request-{number}" for number in range(4000)]
    assert 300 < sum(in_share(name, 0.1) for name in names) < 500
    assert not any(in_share(name, 0.0) for name in names)
    assert all(in_share(name, 1.0) for name in names)


@given(clusters, experts, st.text())
def test_no_worker_is_chosen_that_is_dearer_than_another_by_more_than_slack(
    cluster: Cluster, expert: str, affinity: str
) -> None:
    """Cost in prompts: what waits there, and what a load is worth unless the expert is there or will be anyway."""

    def cost(worker: str) -> int:
        queue = cluster.queued.get(worker, {})
        has = expert in cluster.resident.get(worker, ()) or expert in queue
        return sum(queue.values()) + (0 if has else RULE.load_worth)

    choice = replicas(cluster).choose(expert, affinity, 0.0)
    assert choice.partition == partition_of(expert, choice.replica, 64)
    assert cost(worker_of(choice)) <= min(map(cost, FOUR.values())) + 3 * RULE.slack


@given(clusters, experts, st.text())
def test_mappers_that_see_the_same_choose_the_same(cluster: Cluster, expert: str, affinity: str) -> None:
    assert replicas(cluster).choose(expert, affinity, 0.0) == replicas(cluster).choose(expert, affinity, 1.0)


@given(experts, workers, st.text(), st.integers(0, RULE.load_worth))
def test_where_the_expert_is_its_prompts_go_until_a_load_is_worth_less(
    expert: str, holder: str, affinity: str, waiting: int
) -> None:
    def chosen(waiting: int) -> str:
        cluster = Cluster(64, FOUR, {holder: {"another": waiting}}, {holder: frozenset({expert})})
        return worker_of(replicas(cluster).choose(expert, affinity, 0.0))

    assert chosen(waiting) == holder
    assert chosen(RULE.load_worth + 3 * RULE.slack + 1 + waiting) != holder


def test_a_cold_expert_stays_on_one_worker() -> None:
    """One prompt every second; others keep all workers about as busy."""
    busy = {worker: {"another": 20 + number} for number, worker in enumerate(sorted(set(FOUR.values())))}
    for expert in ("cold", "colder", "coldest"):
        chosen = replicas(Cluster(64, FOUR, busy))
        found = {chosen.choose(expert, f"request-{number}", float(number)).partition for number in range(50)}
        assert len(found) == 1


def test_a_hot_expert_spreads_and_comes_together_again() -> None:
    chosen = replicas(Cluster(64, FOUR, {first_place("hot"): {"hot": 100}}))
    spread = Counter({first_place("hot"): 100})
    for number in range(400):
        spread[worker_of(chosen.choose("hot", f"r{number}", 0.0))] += 1
    assert len(spread) == 4
    assert max(spread.values()) < 1.2 * min(spread.values())
    chosen.saw(Cluster(64, FOUR))
    later = {chosen.choose("hot", f"r{number}", 10.0 + number).partition for number in range(40)}
    assert len(later) == 1


def test_the_number_of_replicas_does_not_flap_with_the_queue() -> None:
    """A queue about as long as lets a replica be added: where a conversation goes stays the same."""
    chosen = Replicas(RULE)
    found = set()
    for number, queued in enumerate([17, 15, 16, 14, 18, 9, 17]):
        chosen.saw(Cluster(64, FOUR, {first_place("hot"): {"hot": queued}}))
        found.add(chosen.choose("hot", "conversation", 10.0 * number).replica)
    assert len(found) == 1


def test_an_old_view_sends_not_everybody_to_the_same_worker() -> None:
    """Three mappers see one worker idle and the others busy, and hear nothing new: what they send evens out."""
    home = first_place("expert")
    queued = {worker: {"another": 40} for worker in set(FOUR.values()) - {home}} | {home: {"expert": 60}}
    mappers = [replicas(Cluster(64, FOUR, queued)) for _ in range(3)]
    sent = Counter(
        worker_of(mappers[number % 3].choose("expert", f"r{number}", 0.001 * number)) for number in range(120)
    )
    assert max(sent.values()) < 60


def test_prompts_of_a_cold_expert_follow_the_first_one_that_left_its_place() -> None:
    """It is loaded once, there, though others are as free."""
    made = replicas(Cluster(64, FOUR, {first_place("cold"): {"another": 100}}))
    chosen = {worker_of(made.choose("cold", f"r{number}", 0.0)) for number in range(4)}
    assert len(chosen) == 1
    assert first_place("cold") not in chosen


def test_replicas_come_with_a_full_queue_and_go_half_a_queue_later() -> None:
    """All workers have the expert and cost the same, so that each prompt keeps to its place."""
    made, counts = Replicas(RULE), []
    names = sorted(set(FOUR.values()))
    for look, queued in enumerate([15, 16, 40, 24, 23, 8, 7]):
        waiting = {worker: {"hot" if worker == names[0] else "other": queued} for worker in names}
        made.saw(Cluster(64, FOUR, waiting, {worker: {"hot"} for worker in names}))
        places = {made.choose("hot", f"r{number}", 100.0 * look + number).partition for number in range(60)}
        counts.append(len(places))
    assert counts == [1, 2, 3, 3, 2, 2, 1]


def test_what_was_just_assigned_counts_until_the_view_has_it() -> None:
    chosen = replicas(Cluster(64, FOUR))
    burst = [worker_of(chosen.choose("burst", f"r{number}", 0.0)) for number in range(200)]
    assert len(set(burst[:4])) == 1
    assert len(set(burst)) == 4


@given(st.integers(1, 8), st.sets(st.integers(0, 63), max_size=20))
def test_only_experts_of_partitions_that_moved_move(partitions: int, moved: set[int]) -> None:
    after = {partition: ("new" if partition in moved else worker) for partition, worker in FOUR.items()}
    for number in range(partitions * 8):
        before_place, after_place = places_of(f"e{number}", 64, FOUR)[0], places_of(f"e{number}", 64, after)[0]
        assert before_place.partition == after_place.partition
        assert before_place.worker == after_place.worker or after_place.worker == "new"


def test_a_worker_that_comes_is_chosen_from_the_next_view_on() -> None:
    """Places are worked out once for an expert, and anew when partitions move."""
    alone = dict.fromkeys(range(64), "old")
    made = replicas(Cluster(64, alone))
    before = made.choose("expert", "affinity", 0.0)
    shared = {partition: "old" if partition == before.partition else "new" for partition in alone}
    made.saw(Cluster(64, shared, resident={"new": {"expert"}}))
    after = made.choose("expert", "affinity", 10.0)
    assert after.partition is not None
    assert shared[after.partition] == "new"


def test_a_queue_that_is_seen_spreads_an_expert() -> None:
    made = replicas(Cluster(64, FOUR, {worker: {"expert": 20} for worker in set(FOUR.values())}))
    chosen = {worker_of(made.choose("expert", str(number), 10.0 * number)) for number in range(40)}
    assert chosen == set(FOUR.values())


def test_without_a_view_the_hash_decides() -> None:
    chosen = Replicas(RULE)
    assert chosen.choose("expert", "a", 0.0) == (0, None)
    chosen.saw(Cluster(64, {}))
    assert chosen.choose("expert", "a", 0.0) == (0, partition_of("expert", 0, 64))


def test_partitions_that_nobody_has_are_passed_over() -> None:
    cluster = Cluster(64, {partition: worker for partition, worker in FOUR.items() if worker != "w0"})
    found = {replicas(cluster).choose(f"e{number}", "a", 0.0).partition for number in range(50)}
    assert found <= set(cluster.owners)
    (lonely,) = {replicas(Cluster(10_000, {9_999: "w"})).choose("e", "a", 0.0).partition}
    assert lonely == 9_999
