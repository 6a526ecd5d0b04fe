"""Throughput against latency: a figure for each phase of a run, and where the system stops keeping up. Pure."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.loadprofile import Profile
from loadtest.recorder import Latencies, Sample

# A system that keeps up answers at least this share of what is offered.
KEEPS_UP = 0.9


@dataclass(frozen=True)
class Step:
    """One measured phase. Rates are prompts a second, latencies milliseconds after the scheduled arrival.

    `answered`: how many answers came within the phase, moved by one median latency of the first phase. A system that
    keeps up answers what is offered; another one what it can, also when the first phase is too much for it.
    """

    phase: int
    offered: float
    answered: float
    errors: int
    latency_ms: dict[str, float]
    first_text_ms: dict[str, float]


def steps(profile: Profile, samples: Sequence[Sample]) -> list[Step]:
    """The measured phases in which something arrived."""
    found: list[Step] = []
    good = [sample for sample in samples if not sample.error and sample.done_s is not None]
    ends = sorted(sample.at_s + (sample.done_s or 0.0) for sample in good)
    moved_s: float | None = None
    start = 0.0
    for number, phase in enumerate(profile.phases):
        end = start + phase.duration_s
        arrived = sum(sample.phase == number for sample in samples)
        if phase.measured and arrived:
            mine = [sample for sample in good if sample.phase == number]
            total, first = Latencies(), Latencies()
            for sample in mine:
                total.add(sample.done_s or 0.0)
                if sample.first_text_s is not None:
                    first.add(sample.first_text_s)
            latency = total.summary()
            if moved_s is None:
                moved_s = latency.get("p50", 0.0) / 1000
            answers = bisect_left(ends, end + moved_s) - bisect_left(ends, start + moved_s)
            offered, answered = arrived / phase.duration_s, answers / phase.duration_s
            found.append(Step(number, offered, answered, arrived - len(mine), latency, first.summary()))
        start = end
    return found


def saturation(found: Sequence[Step]) -> float | None:
    """The highest rate that was answered before one was not, prompts a second. None: the system kept up throughout."""
    kept = 0.0
    for step in sorted(found, key=lambda step: step.offered):
        if step.answered < KEEPS_UP * step.offered:
            return max(kept, step.answered)
        kept = max(kept, step.answered)
    return None
