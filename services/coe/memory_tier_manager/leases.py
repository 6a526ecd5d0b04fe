"""The lease table: which attached worker holds a lease on which expert's weights."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lease:
    lease: int
    worker: str
    expert: str


class LeaseTable:
    """Lease ids count up from `first` and are never reused."""

    def __init__(self, first: int = 1) -> None:
        self._next = first
        self._leases: dict[int, Lease] = {}
        self._by_expert: dict[str, set[int]] = {}
        self._by_worker: dict[str, set[int]] = {}

    @property
    def next_lease(self) -> int:
        """The id that the next lease will get."""
        return self._next

    def __len__(self) -> int:
        return len(self._leases)

    def grant(self, worker: str, expert: str) -> Lease:
        lease = Lease(self._next, worker, expert)
        self._next += 1
        self._add(lease)
        return lease

    def restore(self, lease_id: int, worker: str, expert: str) -> bool:
        """Restores a lease granted earlier. Returns False if its id is in use."""
        if lease_id in self._leases:
            return False
        self._next = max(self._next, lease_id + 1)
        self._add(Lease(lease_id, worker, expert))
        return True

    def end(self, lease_id: int, worker: str | None = None) -> Lease | None:
        """Ends a lease and returns it. None if there is no such lease, or it is another worker's: ending a lease twice
        is harmless."""
        lease = self._leases.get(lease_id)
        if lease is None or (worker is not None and lease.worker != worker):
            return None
        del self._leases[lease_id]
        for index, name in ((self._by_expert, lease.expert), (self._by_worker, lease.worker)):
            index[name].discard(lease_id)
            if not index[name]:
                del index[name]
        return lease

    def count(self, expert: str) -> int:
        return len(self._by_expert.get(expert, ()))

    def _add(self, lease: Lease) -> None:
        self._leases[lease.lease] = lease
        self._by_expert.setdefault(lease.expert, set()).add(lease.lease)
        self._by_worker.setdefault(lease.worker, set()).add(lease.lease)

    def of_worker(self, worker: str) -> list[Lease]:
        return [self._leases[lease] for lease in sorted(self._by_worker.get(worker, ()))]

    def of_expert(self, expert: str) -> list[Lease]:
        return [self._leases[lease] for lease in sorted(self._by_expert.get(expert, ()))]

    def experts(self) -> set[str]:
        return set(self._by_expert)

    def workers(self) -> set[str]:
        return set(self._by_worker)
