"""Decisions from scores."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coe.router.policy import GENERAL, Decision, Thresholds, decide, empty

CATEGORIES = ("coding", "general", "math")
THRESHOLDS = Thresholds(confidence=0.5, out_of_distribution=0.8)


@pytest.mark.parametrize(
    ("probabilities", "strangeness", "category", "reason"),
    [
        ([0.7, 0.2, 0.1], 0.1, "coding", ""),
        ([0.1, 0.3, 0.6], 0.8, "math", ""),
        ([0.4, 0.3, 0.3], 0.1, GENERAL, "low_confidence"),
        ([0.7, 0.2, 0.1], 0.9, GENERAL, "out_of_distribution"),
        ([0.4, 0.3, 0.3], 0.9, GENERAL, "out_of_distribution"),
        ([0.2, 0.7, 0.1], 0.1, GENERAL, ""),
        ([0.5, 0.3, 0.2], 0.1, "coding", ""),
    ],
)
def test_decisions(probabilities: list[float], strangeness: float, category: str, reason: str) -> None:
    decision = decide(CATEGORIES, probabilities, strangeness, THRESHOLDS)
    assert (decision.category, decision.fallback_reason) == (category, reason)
    assert decision.confidence == max(probabilities)


def test_nothing_to_classify_goes_to_general() -> None:
    assert empty() == Decision(GENERAL, 0.0, (), "empty_prompt", 1.0)


scores = st.lists(st.floats(0.01, 1), min_size=3, max_size=3).map(lambda raw: [value / sum(raw) for value in raw])
unit = st.floats(0, 1)


@given(scores, unit, unit, unit)
def test_always_a_category_of_the_artifact_with_the_whole_distribution(
    probabilities: list[float], strangeness: float, confidence: float, limit: float
) -> None:
    decision = decide(CATEGORIES, probabilities, strangeness, Thresholds(confidence, limit))
    assert decision.category in CATEGORIES
    assert {category for category, _ in decision.distribution} == set(CATEGORIES)
    values = [probability for _, probability in decision.distribution]
    assert values == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(1)
    if decision.fallback_reason:
        assert decision.category == GENERAL


@given(scores, unit, unit, unit)
def test_a_higher_threshold_never_rejects_less(
    probabilities: list[float], strangeness: float, low: float, high: float
) -> None:
    low, high = sorted((low, high))
    loose = decide(CATEGORIES, probabilities, strangeness, Thresholds(low, high))
    strict = decide(CATEGORIES, probabilities, strangeness, Thresholds(high, low))
    assert bool(strict.fallback_reason) >= bool(loose.fallback_reason)
