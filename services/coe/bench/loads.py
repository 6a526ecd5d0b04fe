"""What a load takes from the steps beside it: a trace over the real worker, with an HBM that is too small for all."""

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

# Each expert in turn. In the first one memory is new, and so are they.
ROUNDS = 3
ANSWER_TOKENS = 4
# In first steps of BESIDE_TOKENS: what a visit takes at most.
VISIT = 4


async def loads(setting: Setting, experts: Sequence[str], room: int, samples: Samples) -> None:
    """`samples` have first steps beside which nothing is loaded."""
    tight = replace(setting, hbm_bytes=rounded(setting.hosted.weight_bytes(experts[0])) * room)
    said = asked(setting.hosted.bundle(experts[0]), ROUNDS * len(experts), unlike)
    trace = _trace(experts, float(np.median(samples.prefill[BESIDE_TOKENS])))
    answered = await serve(tight, trace, "lookahead", link=0.0, progress=lambda more: None, ask=unlike)
    alone_s = at(curve(samples.prefill), float(np.mean(said.lengths)) - said.shared)
    count = len(experts)
    if answered.switches > count:
        samples.loads.append(lost_s(answered.meter.spans, count, alone_s) / (answered.switches - count))


def _trace(experts: Sequence[str], step_s: float) -> Trace:
    """`step_s`: of a first step of BESIDE_TOKENS."""
    count = len(experts)
    arrivals = [place // count * count * VISIT * step_s for place in range(ROUNDS * count)]
    return Trace(arrivals, [*experts] * ROUNDS, [0] * len(arrivals), [ANSWER_TOKENS] * len(arrivals))


def lost_s(spans: Sequence[Span], skipped: int, alone_s: float) -> float:
    """By how many seconds more than `alone_s` each the first steps of visits took, but for the first so many visits.

    Of visits of more than one prompt nothing is known, and nothing is said.
    """
    firsts = [span for span in spans if span.added and not span.begun][skipped:]
    return sum(span.seconds - alone_s for span in firsts if span.added == 1)
