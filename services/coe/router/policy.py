"""Turns scores into a decision: the best category, or `general` when that is too uncertain. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

GENERAL = "general"
LOW_CONFIDENCE = "low_confidence"
OUT_OF_DISTRIBUTION = "out_of_distribution"
EMPTY_PROMPT = "empty_prompt"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """A prompt goes to `general` below `confidence` or above `out_of_distribution`."""

    confidence: float
    out_of_distribution: float


@dataclass(frozen=True, slots=True)
class Decision:
    """`confidence` is the best category's probability, even when the prompt falls back to `general`."""

    category: str
    confidence: float
    distribution: tuple[tuple[str, float], ...]
    fallback_reason: str
    out_of_distribution: float


def decide(
    categories: Sequence[str], probabilities: Sequence[float], out_of_distribution: float, thresholds: Thresholds
) -> Decision:
    """`probabilities` are parallel to `categories` and sum to 1."""
    distribution = tuple(sorted(zip(categories, map(float, probabilities), strict=True), key=lambda pair: -pair[1]))
    best, confidence = distribution[0]
    reason = _fallback(confidence, out_of_distribution, thresholds)
    return Decision(GENERAL if reason else best, confidence, distribution, reason, float(out_of_distribution))


def empty() -> Decision:
    """The decision for a prompt without text: there is nothing to classify, but it must still be answered."""
    return Decision(GENERAL, 0.0, (), EMPTY_PROMPT, 1.0)


def _fallback(confidence: float, out_of_distribution: float, thresholds: Thresholds) -> str:
    if out_of_distribution > thresholds.out_of_distribution:
        return OUT_OF_DISTRIBUTION
    return LOW_CONFIDENCE if confidence < thresholds.confidence else ""
