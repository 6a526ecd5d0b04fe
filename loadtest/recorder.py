"""Summarises the outcomes of prompts as counts and HdrHistogram percentiles.

Avoids coordinated omission: every latency is measured from the scheduled send time, so a generator or system that falls
behind shows in the figures.
"""

from collections import Counter
from dataclasses import dataclass, field

from hdrh.histogram import HdrHistogram

PERCENTILES = (50.0, 90.0, 99.0, 99.9)
# One microsecond to half an hour, with three significant digits.
_LOWEST_US, _HIGHEST_US, _DIGITS = 1, 1_800_000_000, 3


@dataclass(frozen=True, slots=True)
class Sample:
    """The outcome of one prompt. `at_s` is its scheduled arrival; other times are seconds after it, None: never."""

    at_s: float
    sent_s: float
    first_text_s: float | None = None
    done_s: float | None = None
    # Error code and message.
    error: str = ""
    why: str = ""
    expert: str = ""
    category: str = ""
    found_in: str = ""
    tokens: int = 0
    # The phase in which it was sent, and the worker that answered.
    phase: int = 0
    worker: str = ""
    # Seconds inside the services, as reported by the terminal event.
    stages: dict[str, float] = field(default_factory=dict)


class Latencies:
    """A distribution of latencies, recorded in seconds."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(_LOWEST_US, _HIGHEST_US, _DIGITS)

    def add(self, seconds: float) -> None:
        self._histogram.record_value(min(_HIGHEST_US, max(_LOWEST_US, round(seconds * 1e6))))

    def summary(self) -> dict[str, float]:
        """Percentiles, mean and maximum in milliseconds; empty without samples."""
        histogram = self._histogram
        if not histogram.get_total_count():
            return {}
        found = {f"p{point:g}": histogram.get_value_at_percentile(point) / 1000 for point in PERCENTILES}
        return {**found, "mean": histogram.get_mean_value() / 1000, "max": histogram.get_max_value() / 1000}


@dataclass(frozen=True)
class Summary:
    """Figures of a run. Rates are per second over `span_s`; latencies are in milliseconds, of answered prompts."""

    sent: int
    completed: int
    errors: dict[str, int]
    # The message of the first error of each code.
    reasons: dict[str, str]
    span_s: float
    throughput: float
    tokens_per_s: float
    latency_ms: dict[str, dict[str, float]]
    experts: dict[str, int]
    categories: dict[str, int]
    found_in: dict[str, int]
    # How often a worker's answer came from a different expert than its previous one. None: workers are not known.
    switches: int | None

    @property
    def latency_columns(self) -> list[str]:
        """Column names of a distribution. There is always one: `send_delay` has values even if nothing was answered."""
        return list(next(iter(self.latency_ms.values()), {}))


def summarise(samples: list[Sample]) -> Summary:
    """Figures of the measured samples, from the first scheduled arrival to the last one or the last answer.

    Time spent waiting for a prompt that timed out does not lower the rates.
    """
    good = [sample for sample in samples if not sample.error]
    distributions = {"total": Latencies(), "first_text": Latencies(), "send_delay": Latencies()}
    for sample in samples:
        distributions["send_delay"].add(sample.sent_s)
    for sample in good:
        if sample.done_s is not None:
            distributions["total"].add(sample.done_s)
        if sample.first_text_s is not None:
            distributions["first_text"].add(sample.first_text_s)
        for stage, seconds in sample.stages.items():
            distributions.setdefault(stage, Latencies()).add(seconds)
    arrivals = [sample.at_s for sample in samples]
    ends = [sample.at_s + (sample.done_s or 0.0) for sample in good]
    span = max([*arrivals, *ends]) - min(arrivals) if samples else 0.0
    return Summary(
        sent=len(samples),
        completed=len(good),
        errors=dict(Counter(sample.error for sample in samples if sample.error)),
        reasons={sample.error: sample.why for sample in reversed(samples) if sample.error},
        span_s=span,
        throughput=len(good) / span if span else 0.0,
        tokens_per_s=sum(sample.tokens for sample in good) / span if span else 0.0,
        latency_ms={name: found for name, values in distributions.items() if (found := values.summary())},
        experts=dict(Counter(sample.expert for sample in good)),
        categories=dict(Counter(sample.category for sample in good)),
        found_in=dict(Counter(sample.found_in for sample in good if sample.found_in)),
        switches=len(switches(good)) if any(sample.worker for sample in good) else None,
    )


def switches(samples: list[Sample]) -> list[float]:
    """Times at which a worker's answer came from a different expert than its previous one, ascending.

    In seconds after the start. A visit in which no answer finishes is not seen.
    """
    ends = sorted((s.at_s + s.done_s, s.worker, s.expert) for s in samples if s.worker and s.done_s is not None)
    last: dict[str, str] = {}
    found = []
    for at_s, worker, expert in ends:
        if last.setdefault(worker, expert) != expert:
            found.append(at_s)
        last[worker] = expert
    return found
