"""Picks the replica of an expert that answers a prompt, by where its weights are and how long the queues are. Pure.

Replica r of an expert maps to the partition given by the hash of "expert#r", and so to the worker that owns it. Each
expert thus has its own order of workers, which changes only where partitions move when a worker joins or leaves.

* Cold experts are packed: all prompts of one go to the first worker in its order that has it loaded, or else to the
  first worker. This keeps copies few and batches full.
* Hot experts are spread: as the queue grows, prompts are spread evenly over more replicas by their affinity.
* A prompt leaves this home only for a worker that is cheaper by some slack. A worker's cost is the number of prompts
  waiting there, plus the worth of a load, in prompts, if it does not have the expert.
* No thundering herd: prompts assigned but not yet in the view are counted, and the slack varies from prompt to prompt,
  so that only some of the prompts that see the same stale view leave.
"""

import hashlib
from collections import Counter, deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NamedTuple

# Replicas tried when listing the workers of an expert.
MOST_TRIED = 64


@dataclass(frozen=True, slots=True)
class Rule:
    """Parameters of the placement, in prompts except for `max_replicas` and `unseen_s`.

    `unseen_s` is how many seconds an assigned prompt is counted separately, until the view can be expected to show it.
    """

    queued_per_replica: int = 16
    max_replicas: int = 4
    load_worth: int = 16
    slack: int = 4
    unseen_s: float = 0.5


@dataclass(frozen=True, slots=True)
class Cluster:
    """A view of the workers. `partitions` is the number of partitions of the assignments topic, 0 when unknown.

    `owners` gives the worker of each partition. By worker, `queued` counts the prompts waiting or running for each
    expert, and `resident` holds the experts in HBM or being loaded.
    """

    partitions: int = 0
    owners: Mapping[int, str] = field(default_factory=dict)
    queued: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    resident: Mapping[str, AbstractSet[str]] = field(default_factory=dict)


class Choice(NamedTuple):
    """`partition` None: the bus chooses by key."""

    replica: int
    partition: int | None


@dataclass(frozen=True, slots=True)
class Place:
    """An expert's first replica on a worker."""

    replica: int
    partition: int
    worker: str


class Replicas:
    """Chooses replicas by the latest view passed to `saw` and by its own choices since."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._cluster = Cluster()
        self._waiting: dict[str, int] = {}
        self._queued: Counter[str] = Counter()
        self._places: dict[str, tuple[Place, ...]] = {}
        self._counts: dict[str, int] = {}
        self._unseen: deque[tuple[float, str, str]] = deque()
        self._unseen_of: Counter[tuple[str, str]] = Counter()

    def saw(self, cluster: Cluster) -> None:
        if cluster.owners != self._cluster.owners or cluster.partitions != self._cluster.partitions:
            self._places.clear()
        self._cluster = cluster
        self._waiting = {worker: sum(queue.values()) for worker, queue in cluster.queued.items()}
        self._queued = Counter()
        for queue in cluster.queued.values():
            self._queued.update(queue)
        self._counts = {expert: count for expert, count in self._counts.items() if count > 1}

    def choose(self, expert: str, affinity: str, now: float) -> Choice:
        """Chooses a replica. `affinity` is a conversation id or request id, `now` monotonic time in seconds."""
        self._forget_seen(now)
        count = self._count(expert)
        if not self._cluster.owners:
            replica = pick_replica(affinity, count)
            partitions = self._cluster.partitions
            return Choice(replica, partition_of(expert, replica, partitions) if partitions else None)
        place = self._place(expert, affinity, count)
        self._unseen.append((now, place.worker, expert))
        self._unseen_of[place.worker, expert] += 1
        self._unseen_of["", expert] += 1
        self._unseen_of[place.worker, ""] += 1
        return Choice(place.replica, place.partition)

    def _place(self, expert: str, affinity: str, count: int) -> Place:
        rule, places = self._rule, self._places_of(expert)
        near, having = places[: rule.max_replicas], [place for place in places if self._has(place.worker, expert)]
        home = having[0] if having and count == 1 else near[pick_replica(affinity, min(count, len(near)))]
        best = min({*near, *having}, key=lambda place: (self._cost(place.worker, expert), place.replica))
        slack = rule.slack * (1 + 2 * share_of(f"{affinity} slack") / 2**32)
        leaves = self._cost(home.worker, expert) > self._cost(best.worker, expert) + slack
        return best if leaves else home

    def _cost(self, worker: str, expert: str) -> float:
        waiting = self._waiting.get(worker, 0) + self._unseen_of[worker, ""]
        return waiting + (0 if self._has(worker, expert) else self._rule.load_worth)

    def _has(self, worker: str, expert: str) -> bool:
        """Whether the worker has the expert, or will load it anyway for earlier prompts."""
        cluster = self._cluster
        return bool(
            expert in cluster.resident.get(worker, ())
            or cluster.queued.get(worker, {}).get(expert)
            or self._unseen_of[worker, expert]
        )

    def _count(self, expert: str) -> int:
        """The number of replicas in use.

        It grows with the queue at once, but shrinks only when the queue is more than half of `queued_per_replica` below
        the length at which it grew (hysteresis).
        """
        rule, queued = self._rule, self._queued[expert] + self._unseen_of["", expert]
        wanted = replica_count(queued, per_replica=rule.queued_per_replica, most=rule.max_replicas)
        had = self._counts.get(expert, 1)
        if wanted < had and queued + rule.queued_per_replica / 2 >= (had - 1) * rule.queued_per_replica:
            wanted = had
        self._counts[expert] = wanted
        return wanted

    def _places_of(self, expert: str) -> tuple[Place, ...]:
        """One place per worker, in the expert's own order. `owners` must not be empty."""
        found = self._places.get(expert)
        if found is None:
            found = self._places[expert] = places_of(expert, self._cluster.partitions, self._cluster.owners)
        return found

    def _forget_seen(self, now: float) -> None:
        while self._unseen and self._unseen[0][0] <= now - self._rule.unseen_s:
            _, worker, expert = self._unseen.popleft()
            for key in ((worker, expert), ("", expert), (worker, "")):
                self._unseen_of[key] -= 1
                if not self._unseen_of[key]:
                    del self._unseen_of[key]


def places_of(expert: str, partitions: int, owners: Mapping[int, str]) -> tuple[Place, ...]:
    """The first replica on each worker that one of the first MOST_TRIED replicas maps to, in the order of replicas.

    Never empty when there are owners.
    """
    found: dict[str, Place] = {}
    for replica in range(MOST_TRIED):
        partition = partition_of(expert, replica, partitions)
        worker = owners.get(partition)
        if worker is not None and worker not in found:
            found[worker] = Place(replica, partition, worker)
    if not found:
        partition = min(owners)
        return (Place(0, partition, owners[partition]),)
    return tuple(found.values())


def partition_of(expert: str, replica: int, partitions: int) -> int:
    return share_of(f"{expert}#{replica}") % partitions


def replica_count(queued: int, *, per_replica: int, most: int) -> int:
    """One replica, plus one for every `per_replica` queued prompts, up to `most`."""
    return max(1, min(most, 1 + queued // per_replica))


def pick_replica(affinity: str, count: int) -> int:
    """A replica below `count`: the same for the same affinity as long as the count stays the same."""
    return share_of(affinity) * count // 2**32


def in_share(identity: str, share: float) -> bool:
    """Whether this identity belongs to a fixed share (0 to 1) of all identities."""
    return share_of(identity) < share * 2**32


def share_of(identity: str) -> int:
    """A hash of the identity, uniform over 0 to 2**32 - 1 and the same in every process."""
    return int.from_bytes(hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "big")
