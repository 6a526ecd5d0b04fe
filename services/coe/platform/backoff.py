"""How long to wait before trying again: exponential with full jitter, so that many clients don't come back at once."""

import random

BASE_S = 0.2
CAP_S = 10.0


def delay_s(failures: int, *, base_s: float = BASE_S, cap_s: float = CAP_S, draw: float | None = None) -> float:
    """Seconds to wait after `failures` (1 or more) in a row. `draw` in [0, 1) replaces the random number."""
    ceiling = min(cap_s, base_s * 2.0 ** min(failures - 1, 30))
    chance: float = random.random() if draw is None else draw
    return ceiling * (0.5 + chance / 2)
