"""Even shares, and no more moves than they take; the leader's knowledge goes on from leader to leader."""

import math
from collections import Counter

import pytest
from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from hypothesis import given
from hypothesis import strategies as st

from coe.platform.bus.kafka.assignor import SharesAssignor
from coe.platform.bus.shares import shared_out

TOPIC = "prompts"
members = st.dictionaries(st.text(min_size=1, max_size=4), st.text(max_size=3), min_size=1, max_size=12)


def moved(before: dict[int, str], after: dict[int, str]) -> int:
    return sum(after[partition] != owner for partition, owner in before.items())


@given(st.integers(0, 80), members, st.dictionaries(st.integers(0, 90), st.text(max_size=2)))
def test_whoever_had_what_shares_are_even(partitions: int, group: dict[str, str], before: dict[int, str]) -> None:
    owners = shared_out(range(partitions), group, before)
    assert set(owners) == set(range(partitions))
    sizes = [list(owners.values()).count(member) for member in group]
    assert max(sizes) - min(sizes) <= 1
    assert shared_out(range(partitions), group, owners) == owners


@given(st.integers(1, 80), members, st.data())
def test_one_more_or_one_less_moves_one_share(partitions: int, group: dict[str, str], data: st.DataObject) -> None:
    before = shared_out(range(partitions), group, {})
    after = shared_out(range(partitions), {**group, "newcomer": "n"}, before)
    assert moved(before, after) == list(after.values()).count("newcomer") <= math.ceil(partitions / (len(group) + 1))
    leaver = data.draw(st.sampled_from(sorted({**group, "newcomer": "n"})))
    rest = {member: name for member, name in {**group, "newcomer": "n"}.items() if member != leaver}
    again = shared_out(range(partitions), rest, after)
    assert moved(after, again) == list(after.values()).count(leaver)


def test_who_comes_back_gets_most_of_what_it_had() -> None:
    group = {f"w{number}": f"w{number}" for number in range(8)}
    rest = {member: name for member, name in group.items() if member != "w3"}
    at_first = shared_out(range(64), group, {})
    without = shared_out(range(64), rest, at_first)
    again = shared_out(range(64), group, without)
    assert sum(at_first[partition] == again[partition] == "w3" for partition in range(64)) >= 5


class Cluster(ClusterMetadata):  # type: ignore[misc]
    def __init__(self, partitions: int) -> None:
        super().__init__()
        self._count = partitions

    def partitions_for_topic(self, topic: str) -> set[int]:
        return set(range(self._count))


class Group:
    """Its members, each with the assignor of its consumer, as bytes on the wire."""

    def __init__(self, partitions: int) -> None:
        self.members: dict[str, SharesAssignor] = {}
        self._cluster = Cluster(partitions)
        self._ids = 0

    def join(self, name: str) -> str:
        self._ids += 1
        member = f"{name}-{self._ids}"
        self.members[member] = SharesAssignor(name)
        return member

    def round(self, leader: str) -> dict[int, str]:
        """Partition -> member, after a round of rebalancing."""
        offered = {
            member: ConsumerProtocolMemberMetadata.decode(assignor.metadata([TOPIC]).encode())
            for member, assignor in self.members.items()
        }
        given_out = self.members[leader].assign(self._cluster, offered)
        assert given_out.keys() == self.members.keys()
        wire = {member: ConsumerProtocolMemberAssignment.decode(one.encode()) for member, one in given_out.items()}
        for member, assignor in self.members.items():
            assignor.on_assignment(wire[member])
        return {tp.partition: member for member, assignment in wire.items() for tp in assignment.partitions()}


def test_what_a_member_says_never_changes() -> None:
    group = Group(8)
    first = group.join("a")
    said = group.members[first].metadata([TOPIC]).encode()
    group.round(first)
    group.join("b")
    group.round(first)
    assert group.members[first].metadata([TOPIC]).encode() == said


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 99), st.integers(0, 99)), max_size=20))
def test_whoever_of_those_that_were_there_leads_few_move(steps: list[tuple[bool, int, int]]) -> None:
    group = Group(24)
    before = group.round(group.join("worker"))
    for joins, who, leader in steps:
        there = sorted(group.members)
        if joins or len(there) == 1:
            changed = group.join("worker")
        else:
            changed = there.pop(who % len(there))
            del group.members[changed]
        after = group.round(there[leader % len(there)])
        assert Counter(after.values()).keys() <= group.members.keys()
        owner = after if joins or changed in group.members else before
        assert moved(before, after) == list(owner.values()).count(changed)
        before = after


def test_a_member_that_joins_anew_under_its_name_keeps_its_partitions() -> None:
    """As a worker does that was away for longer than its session."""
    group = Group(24)
    leader = group.join("a")
    lost = group.join("b")
    before = group.round(leader)
    del group.members[lost]
    again = group.join("b")
    after = group.round(leader)
    assert {p for p, member in before.items() if member == lost} == {p for p, m in after.items() if m == again}


@pytest.mark.parametrize("user_data", [b"", None, b"\x00\x01", b"x\x9c\x03\x00\x00\x00\x00\x01"])
def test_an_assignment_of_another_release_is_taken_as_it_is(user_data: bytes | None) -> None:
    assignor = SharesAssignor("a")
    assignor.on_assignment(ConsumerProtocolMemberAssignment(0, [(TOPIC, [0, 1])], user_data))
    given_out = assignor.assign(Cluster(4), {"m": ConsumerProtocolMemberMetadata(0, [TOPIC], b"")})
    assert [tp.partition for tp in given_out["m"].partitions()] == [0, 1, 2, 3]
