"""Which experts are in HBM or loading into it, as reported by the tier manager, and which loads are late. Pure."""

from collections.abc import Callable

from coe.expert_worker.effects import Residency

# A load is late after LATE_S seconds or LATE_TIMES its expected time, whichever is longer: its disk may be hanging.
LATE_S = 1.0
LATE_TIMES = 3


class Resident:
    """`load_s`: the expected seconds of an expert's load. `experts`: those in HBM or loading into it."""

    def __init__(self, load_s: Callable[[str], float]) -> None:
        self.experts: set[str] = set()
        self._load_s = load_s
        self._loading: dict[str, float] = {}

    def forget(self) -> None:
        """The tier manager was replaced: what the previous one reported is void."""
        self.experts.clear()
        self._loading.clear()

    def changed(self, expert_id: str, residency: Residency, now: float) -> float | None:
        """Returns the duration of a load if it has just succeeded."""
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
