"""Which experts are in HBM or on their way there, as the tier manager tells, and whose weights are late. Pure."""

from collections.abc import Callable

from coe.expert_worker.effects import Residency

# A load is late when it has taken so long, and LATE_TIMES what it should: its disk may not answer.
LATE_S = 1.0
LATE_TIMES = 3


class Resident:
    """`load_s`: how many seconds an expert's load should take. `experts`: in HBM, or on their way."""

    def __init__(self, load_s: Callable[[str], float]) -> None:
        self.experts: set[str] = set()
        self._load_s = load_s
        self._loading: dict[str, float] = {}

    def forget(self) -> None:
        """Another tier manager: what the former one told is void."""
        self.experts.clear()
        self._loading.clear()

    def changed(self, expert_id: str, residency: Residency, now: float) -> float | None:
        """Returns the seconds that a load has taken which has just ended well."""
        if residency in (Residency.ABSENT, Residency.LEAVING):
            self.experts.discard(expert_id)
        else:
            self.experts.add(expert_id)
        if residency is Residency.LOADING:
            self._loading.setdefault(expert_id, now)
            return None
        since = self._loading.pop(expert_id, None)
        return now - since if since is not None and residency is Residency.RESIDENT else None

    def is_late(self, expert_id: str, now: float) -> bool:
        since = self._loading.get(expert_id)
        return since is not None and now - since > max(LATE_S, LATE_TIMES * self._load_s(expert_id))
