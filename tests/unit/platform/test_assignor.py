"""A member that comes or goes moves only its share of the partitions."""

import math
from collections import Counter

import pytest
from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor

from coe.platform.bus.kafka.assignor import assignors

TOPIC = "prompts"


class Cluster(ClusterMetadata):  # type: ignore[misc]
    def __init__(self, partitions: int) -> None:
        super().__init__()
        self._count = partitions

    def topics(self, exclude_internal_topics: bool = True) -> set[str]:
        return {TOPIC}

    def partitions_for_topic(self, topic: str) -> set[int]:
        return set(range(self._count))


class Group:
    """The members of a group, each with the assignor of its consumer."""

    def __init__(self, partitions: int) -> None:
        self._cluster = Cluster(partitions)
        self._members: dict[str, type[AbstractPartitionAssignor]] = {}

    def join(self, name: str) -> None:
        self._members[name] = assignors()[0]

    def leave(self, name: str) -> None:
        del self._members[name]

    def owners(self) -> dict[int, str]:
        """Partition -> member, after a rebalance that the first member leads."""
        offered = {name: assignor.metadata([TOPIC]) for name, assignor in self._members.items()}
        given = next(iter(self._members.values())).assign(self._cluster, offered)
        for name, assignor in self._members.items():
            assignor.on_assignment(given[name])
        return {tp.partition: name for name, assignment in given.items() for tp in assignment.partitions()}


def moved(before: dict[int, str], after: dict[int, str]) -> int:
    return sum(after[partition] != owner for partition, owner in before.items())


@pytest.mark.parametrize(("partitions", "members"), [(8, 3), (16, 3), (64, 7), (12, 1)])
def test_a_newcomer_takes_its_share_and_no_more(partitions: int, members: int) -> None:
    group = Group(partitions)
    for number in range(members):
        group.join(f"worker-{number}")
        before = group.owners()
    group.join("newcomer")
    after = group.owners()
    assert len(after) == partitions
    assert moved(before, after) <= math.ceil(partitions / (members + 1))
    assert max(list(after.values()).count(name) for name in set(after.values())) <= math.ceil(
        partitions / (members + 1)
    )


@pytest.mark.parametrize(("partitions", "members"), [(8, 4), (64, 8)])
def test_only_what_a_leaver_had_moves(partitions: int, members: int) -> None:
    group = Group(partitions)
    for number in range(members):
        group.join(f"worker-{number}")
        before = group.owners()
    group.leave("worker-1")
    after = group.owners()
    assert moved(before, after) == Counter(before.values())["worker-1"]
    assert "worker-1" not in after.values()


def test_consumers_of_one_process_share_no_state() -> None:
    assert assignors()[0] is not assignors()[0]
