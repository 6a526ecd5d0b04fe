"""Counters that cost a dictionary's increment: the figures are read when somebody collects them."""

from collections.abc import Iterable, Mapping

from opentelemetry.metrics import CallbackOptions, Observation


class Counter:
    """A monotonic sum for each set of attributes. For one event loop or under the interpreter's lock."""

    def __init__(self) -> None:
        self._sums: dict[tuple[tuple[str, str], ...], float] = {}

    def add(self, amount: float, attributes: Mapping[str, str] | None = None) -> None:
        """The same attributes in another order are another series: give them in one order."""
        key = tuple(attributes.items()) if attributes else ()
        self._sums[key] = self._sums.get(key, 0) + amount

    def observe(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(total, dict(key)) for key, total in list(self._sums.items())]
