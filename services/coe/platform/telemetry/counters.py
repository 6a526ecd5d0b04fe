"""Counters that cost only a dictionary update; values are read at collection."""

from collections.abc import Iterable, Mapping

from opentelemetry.metrics import CallbackOptions, Observation


class Counter:
    """A monotonic sum per set of attributes. Relies on a single event loop or the GIL."""

    def __init__(self) -> None:
        self._sums: dict[tuple[tuple[str, str], ...], float] = {}

    def add(self, amount: float, attributes: Mapping[str, str] | None = None) -> None:
        """Adds to a series. Always pass attributes in the same order; a different order is a different series."""
        key = tuple(attributes.items()) if attributes else ()
        self._sums[key] = self._sums.get(key, 0) + amount

    def observe(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(total, dict(key)) for key, total in list(self._sums.items())]
