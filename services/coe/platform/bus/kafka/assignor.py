"""The group leader's partition assignor (coe.platform.bus.shares), and how it learns the previous owners.

The leader sends the whole assignment along with each member's own, so that the next leader knows it. A member's join
metadata never changes: a broker rebalances whenever metadata changes, so members that reported their partitions would
trigger one rebalance after another.
"""

import json
import zlib
from collections.abc import Iterable, Mapping
from hashlib import blake2b

from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

from coe.platform.bus.shares import shared_out


class SharesAssignor(AbstractPartitionAssignor):  # type: ignore[misc]
    """The assignor of one member, kept when its consumer is replaced. `member`: a name that survives restarts."""

    # The protocol that members of earlier releases offer, so that both agree. Two names cannot be offered: aiokafka
    # then joins once for each (its pull request 1168), and each join makes all other members rejoin.
    name = "range"

    def __init__(self, member: str) -> None:
        self._member = member
        # Topic -> partition -> digests of its owner's id and name.
        self._before: dict[str, dict[int, list[str]]] = {}

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        return ConsumerProtocolMemberMetadata(0, sorted(topics), self._member.encode())

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        self._before = _decoded(assignment.user_data)

    def assign(
        self, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        names = {member: (said.user_data or b"").decode("utf-8", "replace") for member, said in members.items()}
        given: dict[str, dict[str, list[int]]] = {member: {} for member in members}
        owned: dict[str, dict[int, list[str]]] = {}
        for topic in sorted({topic for said in members.values() for topic in said.subscription}):
            interested = {member: names[member] for member, said in members.items() if topic in said.subscription}
            partitions = sorted(cluster.partitions_for_topic(topic) or ())
            owners = shared_out(partitions, interested, self._had(topic, interested))
            for partition, member in sorted(owners.items()):
                given[member].setdefault(topic, []).append(partition)
            owned[topic] = {partition: _digests(member, names[member]) for partition, member in owners.items()}
        everything = _encoded(owned)
        return {
            member: ConsumerProtocolMemberAssignment(0, sorted(topics.items()), everything)
            for member, topics in given.items()
        }

    def _had(self, topic: str, members: Mapping[str, str]) -> dict[int, str]:
        """Maps partitions to previous owners. A member that rejoined is recognized by its name, if that is unique."""
        by_id = {_digests(member, name)[0]: member for member, name in members.items()}
        by_name: dict[str, list[str]] = {}
        for member, name in members.items():
            by_name.setdefault(_digests(member, name)[1], []).append(member)
        had = {}
        for partition, (member_digest, name_digest) in self._before.get(topic, {}).items():
            same = by_name.get(name_digest, [])
            owner = by_id.get(member_digest) or (same[0] if len(same) == 1 else None)
            if owner is not None:
                had[partition] = owner
        return had


def _digests(member: str, name: str) -> list[str]:
    return [blake2b(text.encode(), digest_size=6).hexdigest() for text in (member, name or member)]


def _encoded(owned: Mapping[str, Mapping[int, list[str]]]) -> bytes:
    """Encodes compactly, each owner once: the broker stores a copy per member, all in one record."""
    owners = sorted({tuple(owner) for partitions in owned.values() for owner in partitions.values()})
    numbers = {owner: number for number, owner in enumerate(owners)}
    topics = {
        topic: [[partition, numbers[tuple(owner)]] for partition, owner in sorted(partitions.items())]
        for topic, partitions in owned.items()
    }
    return zlib.compress(json.dumps([owners, topics], separators=(",", ":")).encode())


def _decoded(data: bytes | None) -> dict[str, dict[int, list[str]]]:
    """Decodes the previous assignment; empty if the leader is of another release, which sends none."""
    try:
        owners, topics = json.loads(zlib.decompress(data or b""))
        return {
            topic: {int(partition): list(owners[number]) for partition, number in pairs}
            for topic, pairs in topics.items()
        }
    except (zlib.error, ValueError, TypeError, AttributeError, IndexError):
        return {}
