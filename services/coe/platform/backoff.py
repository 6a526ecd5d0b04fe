"""Exponential backoff with jitter, so that many clients don't retry at the same time."""

import random

BASE_S = 0.2
CAP_S = 10.0


def delay_s(failures: int, *, base_s: float = BASE_S, cap_s: float = CAP_S, draw: float | None = None) -> float:
    """Seconds to wait after `failures` consecutive failures (1 or more).

    A random value between half and all of a ceiling, which doubles from `base_s` with each failure, up to `cap_s`.
    `draw` in [0, 1) replaces the random number.
    """
    ceiling = min(cap_s, base_s * 2.0 ** min(failures - 1, 30))
    chance: float = random.random() if draw is None else draw
    return ceiling * (0.5 + chance / 2)
