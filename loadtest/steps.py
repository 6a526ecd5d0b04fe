"""Computes throughput and latency for each phase of a run, and the saturation rate. Pure."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.loadprofile import Profile
from loadtest.recorder import Latencies, Sample

# A system that keeps up answers at least this share of the offered prompts.
KEEPS_UP = 0.9


@dataclass(frozen=True)
class Step:
    """One measured phase. Rates are in prompts per second, latencies in milliseconds after the scheduled arrival.

    `answered`: the rate of answers within the phase, shifted by the median latency of the first phase. It equals the
    offered rate if the system keeps up, otherwise the system's capacity, even if the first phase already overloads it.
    """

    phase: int
    offered: float
    answered: float
    errors: int
    latency_ms: dict[str, float]
    first_text_ms: dict[str, float]


def steps(profile: Profile, samples: Sequence[Sample]) -> list[Step]:
    """The measured phases with at least one arrival."""
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
    """The highest rate answered before the system fell behind, in prompts/s. None: it kept up throughout."""
    kept = 0.0
    for step in sorted(found, key=lambda step: step.offered):
        if step.answered < KEEPS_UP * step.offered:
            return max(kept, step.answered)
        kept = max(kept, step.answered)
    return None
