"""Which replica of an expert answers a prompt: by where its weights are, and by how much waits where. Pure.

Replica r of an expert lies on the partition that the hash of "expert#r" gives, and so with the worker that owns it.
Each expert thus has an order of workers of its own; a worker that comes or goes changes it only where partitions moved.

* Cold experts pack: all prompts of one meet on the first worker that has it, or on its first, which costs fewest copies
  and fills batches.
* Hot ones spread: as the queue grows, prompts are spread evenly over more replicas by their affinity.
* A prompt leaves this place of its only for a worker that is cheaper by some slack. Cost is what waits there,
  in prompts, and for a worker that has not got the expert, what a load is worth.
* No herd: what was assigned but is not in the view yet is counted, and each prompt has a slack of its own, so that of
  those who see the same old view only a part leaves.
"""

import hashlib
from collections import Counter, deque
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NamedTuple

# Replicas that are looked at for one on a worker that has the expert.
MOST_TRIED = 64


@dataclass(frozen=True, slots=True)
class Rule:
    """Counted in prompts, but for `unseen_s`: so long it may take until an assigned prompt is in the view."""

    queued_per_replica: int = 16
    max_replicas: int = 4
    load_worth: int = 16
    slack: int = 4
    unseen_s: float = 0.5


@dataclass(frozen=True, slots=True)
class Cluster:
    """What is known of the workers, all of them by name. `partitions`: of the assignments topic, 0 when not known.

    `queued`: prompts waiting or running, by expert. `resident`: experts in HBM or on the way there.
    """

    partitions: int = 0
    owners: Mapping[int, str] = field(default_factory=dict)
    queued: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    resident: Mapping[str, AbstractSet[str]] = field(default_factory=dict)


class Choice(NamedTuple):
    """`partition` None: where the bus puts the key."""

    replica: int
    partition: int | None


@dataclass(frozen=True, slots=True)
class Place:
    """The first replica of an expert that a worker answers."""

    replica: int
    partition: int
    worker: str


class Replicas:
    """Chooses by the newest view it `saw`, and by what it chose since."""

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
        """`affinity`: a conversation, else a request. `now`: seconds of a monotonic clock."""
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
        """Or will load it anyway, for prompts that came before."""
        cluster = self._cluster
        return bool(
            expert in cluster.resident.get(worker, ())
            or cluster.queued.get(worker, {}).get(expert)
            or self._unseen_of[worker, expert]
        )

    def _count(self, expert: str) -> int:
        """Grows with the queue at once, and shrinks when half a replica's prompts fewer wait than let it grow."""
        rule, queued = self._rule, self._queued[expert] + self._unseen_of["", expert]
        wanted = replica_count(queued, per_replica=rule.queued_per_replica, most=rule.max_replicas)
        had = self._counts.get(expert, 1)
        if wanted < had and queued + rule.queued_per_replica / 2 >= (had - 1) * rule.queued_per_replica:
            wanted = had
        self._counts[expert] = wanted
        return wanted

    def _places_of(self, expert: str) -> tuple[Place, ...]:
        """One for each worker that has one, in the expert's own order. `owners` is not empty."""
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
    """The first replica on each worker, as far as `MOST_TRIED` replicas reach; never empty when there are owners."""
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
    """One replica for every `per_replica` prompts that wait for the expert, from 1 to `most`."""
    return max(1, min(most, 1 + queued // per_replica))


def pick_replica(affinity: str, count: int) -> int:
    """The same replica for the same affinity as long as the count stays."""
    return share_of(affinity) * count // 2**32


def in_share(identity: str, share: float) -> bool:
    """Whether this identity is among a fixed part `share` (0 to 1) of all."""
    return share_of(identity) < share * 2**32


def share_of(identity: str) -> int:
    """Evenly spread over 0 .. 2**32 - 1, the same in every process."""
    return int.from_bytes(hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "big")
