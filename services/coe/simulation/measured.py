"""One machine as it was measured, where a line through the times of its steps is too coarse (`coe bench calibrate`)."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

# (n, seconds), ascending by n.
Curve = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds, unless it says otherwise.

    `decode`: from the begin of a step to that of the next, by its sequences; `prefill`: a step that computes prompts,
    by all its tokens, also those of decodes beside them; `between_s`: from its end to the next step's begin. All as in
    a visit whose expert was not used of late: weights come from memory first.
    `switch_s`: from the last step of an expert to the first of another that is in HBM; `prompt_s`: taking a prompt in
    (template, tokenizer); `wake_s`: how much longer a visit takes after a pause, in which others had the caches.
    `first_link`: bytes a second of an expert's first copy (read into DDR, checked); `fresh_link`: of one into memory
    of HBM that was never used; `touch_s`: how much longer the first step takes that reads such memory.
    `copying`: the part of execution that a copy under way takes, as it runs on the same cores; `ask_s`: what else a
    load takes of it, on which worker and manager agree.
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
        """The same machine when it executes so many times slower. Copies are as they were."""

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
        """From JSON. Raises TypeError or ValueError when it is none."""
        curves = {name: _curve(fields[name]) for name in ("decode", "prefill") if name in fields}
        return cls(**(fields | curves))  # type: ignore[arg-type]


def _curve(points: object) -> Curve:
    if not isinstance(points, Iterable):
        raise TypeError("a curve is a list of points")
    return tuple((float(n), float(seconds)) for n, seconds in points)


def at(curve: Curve, n: float) -> float:
    """Straight between two points; before the first as there, beyond the last on in the same direction."""
    if n <= curve[0][0] or len(curve) == 1:
        return curve[0][1]
    above = min(bisect_left(curve, (n,)), len(curve) - 1)
    (low, low_s), (high, high_s) = curve[above - 1], curve[above]
    return low_s + (high_s - low_s) * (n - low) / (high - low)


def envelope(points: Sequence[tuple[float, float]]) -> Curve:
    """The lower convex hull: no mixture of steps is cheaper."""
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
