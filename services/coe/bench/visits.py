"""Measures the time between steps of the real worker, from the spans of its steps in a trace."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from coe.bench.meter import Span, pitches
from coe.bench.node import Setting, serve
from coe.bench.samples import BESIDE_TOKENS, Samples
from coe.memory_tier_manager.extents import rounded
from coe.simulation.trace import Trace

ANSWER_TOKENS = 20
# Pairs of single prompts for two experts that arrive together, with pauses between the pairs.
PAIRS = 7
# In first steps of BESIDE_TOKENS: the longest first visit of an expert, with a copy into new memory, and the two
# answers of a pair with a pause.
FIRST_VISIT, PAIR = 5, 13


async def visit(setting: Setting, experts: Sequence[str], sizes: Sequence[int], samples: Samples) -> None:
    """Adds to `samples`, which must already have first steps, with an HBM that holds every expert.

    `sizes`: the number of prompts of each visit, each to a different expert.
    """
    roomy = replace(setting, hbm_bytes=rounded(setting.hosted.weight_bytes(experts[0])) * len(sizes))
    trace = _trace(experts, sizes, float(np.median(samples.prefill[BESIDE_TOKENS])))
    answered = await serve(roomy, trace, "lookahead", link=0.0, progress=lambda more: None)
    samples.lone += [span.seconds for span in answered.meter.lone]
    read(answered.meter.spans, len(sizes), samples)


def _trace(experts: Sequence[str], sizes: Sequence[int], step_s: float) -> Trace:
    """One prompt for each expert, then pairs, then visits. `step_s`: duration of a first step of BESIDE_TOKENS."""
    firsts, paired = experts[: len(sizes)], experts[: 2 * PAIRS]
    visited = [expert for expert, size in zip(experts, sizes, strict=False) for _ in range(size)]
    pauses = [(FIRST_VISIT * len(firsts) + PAIR * pair) * step_s for pair in range(PAIRS + 1)]
    arrivals = [0.0] * len(firsts) + sorted(pauses[:PAIRS] * 2) + [pauses[PAIRS]] * len(visited)
    asked = [*firsts, *paired, *visited]
    answers = [1] * len(firsts) + [ANSWER_TOKENS] * (len(paired) + len(visited))
    return Trace(arrivals, asked, [0] * len(asked), answers)


def read(spans: Sequence[Span], firsts: int, samples: Samples) -> None:
    """Reads the spans of such a trace, which starts with `firsts` visits of one prompt for each expert."""
    visits = _by_visit(spans)[firsts:]
    pairs, visits = visits[: 2 * PAIRS], visits[2 * PAIRS :]
    whole = [_whole_s(visit) for visit in pairs]
    samples.woken += [woken - other for woken, other in zip(whole[::2], whole[1::2], strict=True)]
    samples.decode[1] += [_pitch_s(visit) for visit in pairs if len(visit) >= ANSWER_TOKENS // 2]
    steps = [span for visit in visits for span in visit]
    samples.taken += [span.adding_s / span.added for span in steps if span.added]
    for one, following in pairwise(steps):
        gap_s = following.began - one.ended - following.adding_s
        if one.expert != following.expert:
            samples.switch.append(gap_s)
        elif one.begun < one.sequences:
            samples.between.append(gap_s)
    decodes: dict[tuple[str, int], list[float]] = defaultdict(list)
    for span, seconds in pitches(steps):
        decodes[span.expert, span.sequences].append(seconds)
    for (_, sequences), each in decodes.items():
        if len(each) >= ANSWER_TOKENS // 2:
            samples.decode[sequences].append(sum(each) / len(each))


def _by_visit(spans: Sequence[Span]) -> list[list[Span]]:
    visits: list[list[Span]] = []
    for span in spans:
        if not span.begun and span.added:
            visits.append([])
        visits[-1].append(span)
    return visits


def _pitch_s(visit: Sequence[Span]) -> float:
    """Mean time from decode step to decode step; the first step, which computes the prompt, is excluded."""
    return (visit[-1].began - visit[1].began) / (len(visit) - 2)


def _whole_s(visit: Sequence[Span]) -> float:
    return visit[-1].ended - visit[0].began + visit[0].adding_s
