"""The samples of a calibration, and the machine that is fitted to them for the simulator. Pure."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
from scipy.optimize import isotonic_regression

from coe.platform.errors import Unavailable
from coe.simulation.hardware import HOST, Hardware
from coe.simulation.measured import Curve, Measured, at

BESIDE_TOKENS = 40


def _lists() -> defaultdict[int, list[float]]:
    return defaultdict(list)


@dataclass(slots=True)
class Samples:
    """All values are in seconds.

    Steps:

    * `decode`: mean time of a visit from step to step, by number of sequences.
    * `lone`: decode steps of one sequence, without the time between them.
    * `prefill`: the first step of a visit, by its tokens.
    * `between`: from a step that computes prompts to the next step of the same expert.
    * `switch`: from the last step of one expert to the first of another.
    * `taken`: accepting a prompt.
    * `woken`: how much longer a visit of one prompt took after a pause than another right after it.

    Copies:

    * `again`, `first`, `fresh`: a repeated copy of an expert, its first, and one into unused memory.
    * `touched`: a first step of BESIDE_TOKENS that reads such memory.
    * `beside`: the duration of a copy, and how much longer the steps during it took.
    * `loads`: how much longer the real worker's steps took per load, with everything that a load involves.
    """

    decode: defaultdict[int, list[float]] = field(default_factory=_lists)
    lone: list[float] = field(default_factory=list)
    prefill: defaultdict[int, list[float]] = field(default_factory=_lists)
    again: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    fresh: list[float] = field(default_factory=list)
    touched: list[float] = field(default_factory=list)
    beside: list[tuple[float, float]] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    between: list[float] = field(default_factory=list)
    switch: list[float] = field(default_factory=list)
    taken: list[float] = field(default_factory=list)
    woken: list[float] = field(default_factory=list)

    def add(self, other: "Samples") -> None:
        for name in (one.name for one in fields(self)):
            mine, more = getattr(self, name), getattr(other, name)
            if isinstance(mine, list):
                mine += more
            else:
                for n, seconds in more.items():
                    mine[n] += seconds


def fitted(samples: Samples, expert_bytes: int) -> Hardware:
    """Fits a machine to means, as means add up. Raises Unavailable if samples are missing."""
    decode, prefill = curve(samples.decode), curve(samples.prefill)
    copied_s, lost_s = (sum(column) for column in zip(*samples.beside, strict=True))
    copying = min(max(lost_s / copied_s, 0.0), 0.95)
    measured = Measured(
        decode=decode,
        prefill=prefill,
        between_s=_mean(samples.between),
        switch_s=_mean(samples.switch),
        prompt_s=_mean(samples.taken),
        wake_s=max(_median(samples.woken), 0.0),
        first_link=expert_bytes / _mean(samples.first),
        fresh_link=expert_bytes / _mean(samples.fresh),
        touch_s=max(_mean(samples.touched) - at(prefill, BESIDE_TOKENS), 0.0),
        copying=copying,
        ask_s=max(_mean(samples.loads) - copying * _mean(samples.again), 0.0),
    )
    return replace(HOST, link=expert_bytes / _mean(samples.again), measured=measured)


def curve(by_size: dict[int, list[float]]) -> Curve:
    """Means by size, smoothed so that a larger step never takes less time."""
    sizes = sorted(by_size)
    means = [_mean(by_size[size]) for size in sizes]
    even = isotonic_regression(means, weights=[len(by_size[size]) for size in sizes]).x
    return tuple(zip(map(float, sizes), even.tolist(), strict=True))


def _mean(seconds: Sequence[float]) -> float:
    """The mean, with values capped at twice the median, so that one stall of the machine does not dominate."""
    return float(np.minimum(seconds, 2 * _median(seconds)).mean())


def _median(seconds: Sequence[float]) -> float:
    if not seconds:
        raise Unavailable("the machine became too slow while it was calibrated: try again")
    return float(np.median(seconds))
