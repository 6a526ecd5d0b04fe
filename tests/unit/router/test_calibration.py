"""Calibration on synthetic scores with known answers."""

import numpy as np
import pytest

from coe.router.metrics import expected_calibration_error
from coe.router.model import OUTLIER_FEATURES
from coe.router.training.calibrate import REJECTED_SHARE, STRANGE_SHARE, calibrate, equal_groups, judged, thresholds
from coe.router.training.figures import figures, nested
from coe.router.training.validate import DOMAIN, NOISE, SEEN, UNSEEN, HeldOut


def held(count: int = 3000, temperature: float = 2.0, seed: int = 0) -> HeldOut:
    """Prompts whose labels are drawn from softmax(logits / temperature); outliers are 2 away in what shows a topic."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=4, size=(count, 3)).astype(np.float32)
    likely = np.exp(logits / temperature)
    likely /= likely.sum(1, keepdims=True)
    target = (rng.random((count, 1)) > likely.cumsum(1)).sum(1)
    role = rng.choice([SEEN, UNSEEN, NOISE, DOMAIN], count)
    outside = np.isin(role, (NOISE, DOMAIN))
    target[outside] = -1
    features = np.zeros((count, len(OUTLIER_FEATURES)), np.float32)
    features[:, :4] = rng.normal(size=(count, 4)) + 2 * outside[:, None]
    votes = np.full((count, 3), 1 / 3, np.float32)
    group = np.char.add(np.where(role == NOISE, "typing/g", "g"), rng.integers(0, 5, count).astype(str))
    return HeldOut(logits, votes, features, target, role, group)


def test_the_temperature_of_the_labels_is_found() -> None:
    scores = held()
    found = calibrate(scores, 0.0)
    inside = scores.outlier[np.isin(scores.role, (SEEN, UNSEEN))]
    divisor = found.temperature.of(found.detectors.score(inside)) * np.exp(found.temperature.mixed)
    assert divisor.mean() == pytest.approx(2.0, rel=0.1)


def test_nested_figures_match_what_is_known() -> None:
    scores = held()
    found = figures(scores, nested(scores, 0.0), np.ones((scores.role == SEEN).sum()))
    assert found.summary["seen_ece"] < 0.03
    # Two unit normals in 4 dimensions, 2 apart in each: AUROC = Phi(4 / sqrt(2)).
    for name in ("auroc_noise", "auroc_left_out_domain", "seen_auroc_noise"):
        assert found.summary[name] == pytest.approx(0.9977, abs=0.004)
    assert found.summary["unseen_coverage"] == pytest.approx(0.88, abs=0.03)
    assert found.summary["unseen_accuracy_covered"] > found.summary["unseen_accuracy"]
    names = {f"{NOISE}: typing/g{number}" for number in range(5)} | {f"{DOMAIN}: g{number}" for number in range(5)}
    assert set(found.aurocs) == names


def test_ways_of_one_family_count_as_one() -> None:
    scores = held()
    noise = np.flatnonzero(scores.role == NOISE)
    # One way of another family, from which the score learns nothing that typing does not show.
    scores.group[noise[::3]] = "mash/other"
    found = figures(scores, nested(scores, 0.0), np.ones((scores.role == SEEN).sum()))
    each = {name: value for name, value in found.aurocs.items() if name.startswith(NOISE)}
    typing = np.mean([value for name, value in each.items() if "typing" in name])
    assert found.summary["auroc_noise"] == pytest.approx((typing + each[f"{NOISE}: mash/other"]) / 2)


def test_prompts_are_not_judged_by_what_was_fitted_on_them() -> None:
    scores = held(600)
    alone, inside = judged(scores, calibrate(scores, 0.0), 0.0), nested(scores, 0.0)
    assert not np.array_equal(alone.strange, inside.strange)


def test_groups_weigh_the_same_within_their_role() -> None:
    scores = held(500)
    weight = equal_groups(scores)
    for role in (SEEN, UNSEEN, NOISE, DOMAIN):
        groups = np.unique(scores.group[scores.role == role])
        shares = [weight[(scores.role == role) & (scores.group == group)].sum() for group in groups]
        assert shares == pytest.approx([0.2] * 5)


def test_thresholds_send_away_their_share() -> None:
    rng = np.random.default_rng(0)
    confidence, strange = rng.random((2, 4000)).astype(np.float32)
    limits = thresholds(confidence, strange, np.ones(4000))
    assert (strange > limits.out_of_distribution).mean() == pytest.approx(STRANGE_SHARE, abs=0.002)
    kept = (strange <= limits.out_of_distribution) & (confidence >= limits.confidence)
    assert kept.mean() == pytest.approx(0.88, abs=0.002)


def test_a_promise_is_kept_with_few_prompts_too() -> None:
    """No larger part of other prompts is sent away than was chosen, on average over what thresholds are made from."""
    rng = np.random.default_rng(0)
    strange_ones, rejected = [], []
    for _ in range(4000):
        confidence, strange = rng.random((2, 40)).astype(np.float32)
        limits = thresholds(confidence, strange, np.ones(40))
        strange_ones.append(1 - limits.out_of_distribution)
        rejected.append(strange_ones[-1] + limits.out_of_distribution * limits.confidence)
    assert np.mean(strange_ones) <= STRANGE_SHARE
    assert np.mean(rejected) <= REJECTED_SHARE


def test_a_weighted_calibration_error_counts_what_a_prompt_stands_for() -> None:
    confidence, correct = np.array([0.9, 0.9, 0.5]), np.array([True, False, True])
    # Bins: 0.9 is right for weight 3 of 4, 0.5 always: (|4 * 0.9 - 3| + |0.5 - 1|) / 5.
    error = expected_calibration_error(confidence, correct, weight=np.array([3.0, 1.0, 1.0]))
    assert error == pytest.approx((0.6 + 0.5) / 5)
