"""The HBM of a simulated node: which experts it holds, which are being copied, and which are evicted for them."""

from dataclasses import dataclass

from coe.memory_tier_manager.eviction import Candidate, EvictionPolicy
from coe.scheduling.policy import NextUse


@dataclass(slots=True)
class Held:
    """An expert whose weights are in HBM from `ready_at`."""

    ready_at: float
    loaded_at: float
    last_used: float


@dataclass(frozen=True, slots=True)
class LoadTimes:
    """Seconds of a copy: of an expert copied before, of an expert's first, and of one into HBM never used before."""

    again_s: float
    first_s: float
    fresh_s: float


class SimulatedHbm:
    """Room for `experts` of one size. The link makes one copy at a time and is idle from `link_free_at`."""

    def __init__(self, experts: int, times: LoadTimes, policy: EvictionPolicy) -> None:
        self.held: dict[str, Held] = {}
        self.loads = 0
        self.link_free_at = 0.0
        self._room = experts
        self._times = times
        self._policy = policy
        # Experts copied into new memory that no step has read yet.
        self.untouched: set[str] = set()
        self._came: set[str] = set()
        self._forecast: dict[str, tuple[float, float]] = {}

    def hear(self, forecast: tuple[NextUse, ...], now: float) -> None:
        if forecast:
            self._forecast = {use.expert: (now + use.in_s, use.probability) for use in forecast}

    def acquire(self, expert: str, now: float) -> float:
        """Returns when its weights are there. Raises ValueError if HBM has no room for one expert."""
        held = self.held.get(expert)
        if held is None:
            held = self._load(expert, now, frozenset((expert,)))
            if held is None:
                raise ValueError("HBM is too small for one expert")
        held.last_used = now
        return held.ready_at

    def prefetch(self, expert: str, now: float, leased: str) -> None:
        """Copies it into free room, or in place of an idle expert that is needed later than this one."""
        if expert in self.held:
            return
        wanted = self._forecast.get(expert, (float("inf"), 0.0))[0]
        keep = {leased}
        for name, (next_use, _) in self._forecast.items():
            if next_use <= wanted and next_use != float("inf"):
                keep.add(name)
        self._load(expert, now, keep)

    def _load(self, expert: str, now: float, keep: set[str] | frozenset[str]) -> Held | None:
        if len(self.held) >= self._room:
            victim = self._victim(now, keep)
            if victim is None:
                return None
            del self.held[victim]
        ready_at = max(now, self.link_free_at) + self._next_load_s(expert)
        self.link_free_at = ready_at
        self.loads += 1
        self.held[expert] = held = Held(ready_at, ready_at, now)
        return held

    def _next_load_s(self, expert: str) -> float:
        known = expert in self._came
        self._came.add(expert)
        if self.loads < self._room:
            self.untouched.add(expert)
            return self._times.fresh_s
        return self._times.again_s if known else self._times.first_s

    def _victim(self, now: float, keep: set[str] | frozenset[str]) -> str | None:
        best: tuple[tuple[float, ...], str] | None = None
        key, forecast = self._policy.key, self._forecast
        for name, held in self.held.items():
            if name in keep or held.ready_at > now:
                continue
            next_use, probability = forecast.get(name, (float("inf"), 0.0))
            found = key(Candidate(name, 0, 1, held.loaded_at, held.last_used, next_use, probability))
            if best is None or found < best[0]:
                best = (found, name)
        return best[1] if best else None
