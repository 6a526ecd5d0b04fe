"""Computes a router's figures from held-out scores, calibrated on other prompts than they are measured on. Pure."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coe.router.metrics import auroc, expected_calibration_error
from coe.router.training.calibrate import Judged, calibrate, equal_groups, judged
from coe.router.training.noise import family
from coe.router.training.validate import DOMAIN, NOISE, OTHER, SEEN, UNSEEN, HeldOut

PARTS = 5


@dataclass(frozen=True, slots=True)
class Figures:
    """`summary` goes into the artifact. `unseen` is the accuracy by left-out source, `aurocs` the AUROC by outlier."""

    summary: Mapping[str, float]
    unseen: Mapping[str, float]
    aurocs: Mapping[str, float]


def nested(held: HeldOut, neighbour_share: float) -> Judged:
    """Output for each group under a calibration (temperature, detectors and thresholds) that did not see it."""
    part = np.empty(len(held), np.int64)
    for role in np.unique(held.role):
        rows = held.role == role
        inverse = np.unique(held.group[rows], return_inverse=True)[1]
        # Seen sources need not be kept whole: their prompts are split individually.
        part[rows] = np.arange(rows.sum()) % PARTS if role == SEEN else inverse % PARTS
    likely = np.empty_like(held.logits)
    strange = np.empty(len(held), np.float32)
    covered = np.empty(len(held), np.bool_)
    for number in range(PARTS):
        mine = part == number
        found = judged(held[mine], calibrate(held[~mine], neighbour_share), neighbour_share)
        likely[mine], strange[mine], covered[mine] = found.probabilities, found.strange, found.covered
    return Judged(likely, strange, covered)


def figures(held: HeldOut, found: Judged, natural: NDArray[np.float64]) -> Figures:
    """Computes the figures. `natural` is the number of prompts that each seen one represents.

    Seen sources are thus weighted by their frequency in the file. Unseen sources are weighted equally; without
    left-out sources, their figures are missing. AUROCs compare outliers with the prompts of seen and unseen sources, or
    of seen sources only if the name starts with `seen_`. The ways of one family of noise together count as one.
    """
    right = found.probabilities.argmax(1) == held.target
    confidence = found.probabilities.max(1)
    weight = equal_groups(held)
    summary: dict[str, float] = {}
    for name, rows, share in (
        ("seen", held.role == SEEN, natural),
        ("unseen", held.role == UNSEEN, weight[held.role == UNSEEN]),
    ):
        if not rows.any():
            continue
        share = share / share.sum()
        kept = share * found.covered[rows]
        summary[f"{name}_accuracy"] = float(share @ right[rows])
        summary[f"{name}_coverage"] = float(kept.sum())
        summary[f"{name}_accuracy_covered"] = float(kept @ right[rows] / kept.sum())
        summary[f"{name}_ece"] = expected_calibration_error(confidence[rows], right[rows], weight=share)
    aurocs: dict[str, float] = {}
    for role, name in ((NOISE, "noise"), (DOMAIN, "left_out_domain"), (OTHER, "other_domain")):
        for prefix, roles in (("", (SEEN, UNSEEN)), ("seen_", (SEEN,))):
            each = _aurocs(held, found, role, np.isin(held.role, roles))
            if not prefix:
                aurocs |= {f"{role}: {group}": value for group, value in each.items()}
            if each:
                summary[f"{prefix}auroc_{name}"] = _mean(each, families=role == NOISE)
    unseen = {
        str(group): float(right[(held.role == UNSEEN) & (held.group == group)].mean())
        for group in np.unique(held.group[held.role == UNSEEN])
    }
    return Figures(summary, unseen, aurocs)


def _aurocs(held: HeldOut, found: Judged, role: str, inside: NDArray[np.bool_]) -> dict[str, float]:
    """The AUROC of each group of a role against the prompts `inside`."""
    outside = held.role == role
    return {
        str(group): auroc(found.strange[inside], found.strange[outside & (held.group == group)])
        for group in np.unique(held.group[outside])
    }


def _mean(each: Mapping[str, float], *, families: bool) -> float:
    """The mean over groups, or over the means of their families."""
    alike: dict[str, list[float]] = defaultdict(list)
    for group, value in each.items():
        alike[family(group) if families else group].append(value)
    return float(np.mean([np.mean(values) for values in alike.values()]))
