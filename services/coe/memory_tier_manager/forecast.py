"""The forecasts of the node's workers: when each expects to use which expert next."""

from collections.abc import Sequence

from coe.memory_tier_manager.events import Use


class Forecasts:
    """A worker's new forecast replaces its previous one. Times are made absolute on arrival."""

    def __init__(self) -> None:
        self._workers: dict[str, dict[str, tuple[float, float]]] = {}

    def update(self, worker: str, uses: Sequence[Use], now: float) -> None:
        """An empty forecast changes nothing."""
        if uses:
            self._workers[worker] = {use.expert: (now + use.in_s, use.probability) for use in uses}

    def forget(self, worker: str) -> None:
        self._workers.pop(worker, None)

    def told(self) -> dict[str, list[Use]]:
        """Each worker's forecast, with absolute times."""
        return {
            worker: [Use(expert, at, probability) for expert, (at, probability) in said.items()]
            for worker, said in self._workers.items()
        }

    def next_use(self, expert: str) -> float:
        """The earliest time that any worker wants the expert; inf if none does."""
        return min((said[expert][0] for said in self._workers.values() if expert in said), default=float("inf"))

    def probability(self, expert: str) -> float:
        return sum(said[expert][1] for said in self._workers.values() if expert in said)
