"""Throughput against latency: a figure for each phase of a run, and where the system stops keeping up. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.loadprofile import Profile
from loadtest.recorder import Latencies, Sample

# A system that keeps up answers at least this share of what is offered.
KEEPS_UP = 0.9


@dataclass(frozen=True)
class Step:
    """One measured phase. Rates are prompts a second, latencies milliseconds after the scheduled arrival.

    `answered`: of the prompts that arrived in the phase, how many were answered by its end or within one median latency
    of the first phase after it, as a rate. A system that keeps up answers what is offered.
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
    grace_s: float | None = None
    start = 0.0
    for number, phase in enumerate(profile.phases):
        end = start + phase.duration_s
        mine = [sample for sample in samples if sample.phase == number]
        if phase.measured and mine:
            good = [sample for sample in mine if not sample.error and sample.done_s is not None]
            total, first = Latencies(), Latencies()
            for sample in good:
                total.add(sample.done_s or 0.0)
                if sample.first_text_s is not None:
                    first.add(sample.first_text_s)
            latency = total.summary()
            if grace_s is None:
                grace_s = latency.get("p50", 0.0) / 1000
            in_time = [sample for sample in good if sample.at_s + (sample.done_s or 0.0) <= end + grace_s]
            offered, answered = len(mine) / phase.duration_s, len(in_time) / phase.duration_s
            found.append(Step(number, offered, answered, len(mine) - len(good), latency, first.summary()))
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
