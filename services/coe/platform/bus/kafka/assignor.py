"""How the leader of a group shares out partitions (coe.platform.bus.shares), and how it knows who had what.

The leader sends the whole assignment along with each member's own, so that whoever leads next knows it. What a member
says when it joins never changes: a broker starts a new round when it hears something new, and members that said what
they have would start one after another.
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
    """Of one member, kept over the consumers that follow each other there. `name`: the same after a restart."""

    # What members of earlier releases offer, so that they and we agree. Two names can't be offered: aiokafka then joins
    # once for each (its pull request 1168), which are two rounds, and each of them makes all others join again.
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
        """Partition -> member that had it. Who joined anew is known by its name, when no other has the same."""
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
    """Small, for the broker keeps it once for each member in one record: each owner is written once."""
    owners = sorted({tuple(owner) for partitions in owned.values() for owner in partitions.values()})
    numbers = {owner: number for number, owner in enumerate(owners)}
    topics = {
        topic: [[partition, numbers[tuple(owner)]] for partition, owner in sorted(partitions.items())]
        for topic, partitions in owned.items()
    }
    return zlib.compress(json.dumps([owners, topics], separators=(",", ":")).encode())


def _decoded(data: bytes | None) -> dict[str, dict[int, list[str]]]:
    """Empty when a member of another release leads, which says nothing of this."""
    try:
        owners, topics = json.loads(zlib.decompress(data or b""))
        return {
            topic: {int(partition): list(owners[number]) for partition, number in pairs}
            for topic, pairs in topics.items()
        }
    except (zlib.error, ValueError, TypeError, AttributeError, IndexError):
        return {}
