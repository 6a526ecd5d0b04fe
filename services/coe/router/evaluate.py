"""Evaluation for `coe eval router`: measures a router on labelled prompts."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from coe.router.classifier import Classifier
from coe.router.metrics import auroc, expected_calibration_error
from coe.router.prompt import classified_text
from coe.router.training.data import LabelledPrompt

# Prompts classified between two calls of `progress`.
STEP = 200


def evaluate(
    classifier: Classifier,
    prompts: Sequence[LabelledPrompt],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, object]:
    """Figures of a router. Prompts of a domain that it does not know count as out of distribution.

    * `n`: prompts of known domains; the next four figures are about these, and are null for n = 0.
    * `accuracy`: share whose best category is right, however unsure the router was.
    * `coverage`, `accuracy_covered`: share that no threshold sent to `general`, and the accuracy among those
      (null when there are none).
    * `ece`: expected calibration error of the best category's probability.
    * `ood_auroc`: how well the out-of-distribution score separates the other prompts from these; null when either
      group is empty.
    * `by_domain`: n, accuracy, coverage and accuracy_covered of each known domain.
    """
    categories = classifier.artifact.model.categories
    best, confidence, covered, strange = [], [], [], []
    for start in range(0, len(prompts), STEP):
        for decision in classifier.classify(
            [classified_text(prompt.text, ()) for prompt in prompts[start : start + STEP]]
        ):
            best.append(decision.distribution[0].category if decision.distribution else decision.category)
            confidence.append(decision.confidence)
            covered.append(not decision.fallback_reason)
            strange.append(decision.out_of_distribution_score)
        progress(min(start + STEP, len(prompts)), len(prompts))
    domains = np.array([prompt.domain for prompt in prompts])
    known = np.isin(domains, categories)
    right = np.array(best) == domains
    kept = np.array(covered, np.bool_)
    score = np.array(strange)
    outside = auroc(score[known], score[~known])
    return {
        "n": int(known.sum()),
        **_rates(right[known], kept[known]),
        "ece": expected_calibration_error(np.array(confidence)[known], right[known]) if known.any() else None,
        "ood_auroc": None if np.isnan(outside) else outside,
        "by_domain": {
            domain: {"n": int((domains == domain).sum()), **_rates(right[domains == domain], kept[domains == domain])}
            for domain in sorted(set(domains[known].tolist()))
        },
    }


def _rates(right: NDArray[np.bool_], kept: NDArray[np.bool_]) -> dict[str, float | None]:
    """Accuracy, coverage and accuracy of the covered prompts; a share of nothing is None."""
    return {
        "accuracy": float(right.mean()) if len(right) else None,
        "coverage": float(kept.mean()) if len(kept) else None,
        "accuracy_covered": float(right[kept].mean()) if kept.any() else None,
    }
