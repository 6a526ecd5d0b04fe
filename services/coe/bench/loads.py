"""Measures what a load costs the steps during it: a trace through the real worker with an HBM too small for all."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from coe.bench.meter import Span
from coe.bench.node import Setting, serve
from coe.bench.questions import asked, unlike
from coe.bench.samples import BESIDE_TOKENS, Samples, curve
from coe.memory_tier_manager.extents import rounded
from coe.simulation.measured import at
from coe.simulation.trace import Trace

# Rounds through all experts. In the first, HBM is unused and each copy is the first of its expert.
ROUNDS = 3
ANSWER_TOKENS = 4
# The longest duration of a visit, in first steps of BESIDE_TOKENS.
VISIT = 4


async def loads(setting: Setting, experts: Sequence[str], room: int, samples: Samples) -> None:
    """Adds to `samples`, which must already have first steps during which nothing is loaded."""
    tight = replace(setting, hbm_bytes=rounded(setting.hosted.weight_bytes(experts[0])) * room)
    said = asked(setting.hosted.bundle(experts[0]), ROUNDS * len(experts), unlike)
    trace = _trace(experts, float(np.median(samples.prefill[BESIDE_TOKENS])))
    answered = await serve(tight, trace, "lookahead", link=0.0, progress=lambda more: None, ask=unlike)
    alone_s = at(curve(samples.prefill), float(np.mean(said.lengths)) - said.shared)
    count = len(experts)
    if answered.switches > count:
        samples.loads.append(lost_s(answered.meter.spans, count, alone_s) / (answered.switches - count))


def _trace(experts: Sequence[str], step_s: float) -> Trace:
    """`step_s`: duration of a first step of BESIDE_TOKENS."""
    count = len(experts)
    arrivals = [place // count * count * VISIT * step_s for place in range(ROUNDS * count)]
    return Trace(arrivals, [*experts] * ROUNDS, [0] * len(arrivals), [ANSWER_TOKENS] * len(arrivals))


def lost_s(spans: Sequence[Span], skipped: int, alone_s: float) -> float:
    """Returns the seconds that the first steps of visits took in excess of `alone_s` each.

    The first `skipped` visits and those with more than one prompt are not counted.
    """
    firsts = [span for span in spans if span.added and not span.begun][skipped:]
    return sum(span.seconds - alone_s for span in firsts if span.added == 1)
