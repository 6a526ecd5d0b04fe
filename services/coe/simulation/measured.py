"""Step times measured by `coe bench calibrate`, for machines that a straight line models too coarsely."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

# (n, seconds), ascending by n.
Curve = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """All values are in seconds unless noted.

    Steps, measured in visits to experts whose weights the caches no longer hold:

    * `decode`: from the start of a decode step to the start of the next, by number of sequences.
    * `prefill`: a step that computes prompts, by all its tokens, including those of sequences that decode in it.
    * `between_s`: from the end of such a step to the start of the next.

    Visits:

    * `switch_s`: from the last step of one expert to the first step of another that is in HBM.
    * `prompt_s`: accepting a prompt (template and tokenizer).
    * `wake_s`: how much longer a visit takes after a pause, in which other processes used the caches.

    Copies:

    * `first_link`: bytes per second of an expert's first copy, which is read into DDR and verified.
    * `fresh_link`: bytes per second of a copy into HBM that was never used.
    * `touch_s`: how much longer the first step that reads such memory takes.
    * `copying`: the share of execution that a copy in progress costs, as it runs on the same cores.
    * `ask_s`: what else a load costs execution: the exchange between worker and manager.
    """

    decode: Curve
    prefill: Curve
    between_s: float
    switch_s: float
    prompt_s: float
    wake_s: float
    first_link: float
    fresh_link: float
    touch_s: float
    copying: float
    ask_s: float = 0.0

    def slower(self, times: float) -> "Measured":
        """The same machine, executing this many times slower. The speed of copies is unchanged."""

        def curve(points: Curve) -> Curve:
            return tuple((n, seconds * times) for n, seconds in points)

        return replace(
            self,
            decode=curve(self.decode),
            prefill=curve(self.prefill),
            between_s=self.between_s * times,
            switch_s=self.switch_s * times,
            prompt_s=self.prompt_s * times,
            wake_s=self.wake_s * times,
            touch_s=self.touch_s * times,
            ask_s=self.ask_s * times,
        )

    @classmethod
    def of(cls, fields: dict[str, object]) -> "Measured":
        """Builds it from decoded JSON. Raises TypeError or ValueError if the fields are invalid."""
        curves = {name: _curve(fields[name]) for name in ("decode", "prefill") if name in fields}
        return cls(**(fields | curves))  # type: ignore[arg-type]


def _curve(points: object) -> Curve:
    if not isinstance(points, Iterable):
        raise TypeError("a curve is a list of points")
    return tuple((float(n), float(seconds)) for n, seconds in points)


def at(curve: Curve, n: float) -> float:
    """Interpolates linearly: constant before the first point, extrapolated from the last two beyond the last."""
    if n <= curve[0][0] or len(curve) == 1:
        return curve[0][1]
    above = min(bisect_left(curve, (n,)), len(curve) - 1)
    (low, low_s), (high, high_s) = curve[above - 1], curve[above]
    return low_s + (high_s - low_s) * (n - low) / (high - low)


def envelope(points: Sequence[tuple[float, float]]) -> Curve:
    """The lower convex hull of the points: no mixture of steps costs less."""
    hull: list[tuple[float, float]] = []
    for n, seconds in sorted(points):
        if hull and hull[-1][0] == n:
            continue
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-1], (n, seconds)):
            hull.pop()
        hull.append((n, seconds))
    return tuple(hull)


def _slope(a: tuple[float, float], b: tuple[float, float]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0])
