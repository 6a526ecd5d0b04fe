"""Assembles the training corpus: prompts, seeds, other domains, variations and synthetic outliers. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coe.router.training import noise
from coe.router.training.augment import augmented
from coe.router.training.data import LabelledPrompt, distinct
from coe.router.training.fit import sample
from coe.router.training.seeds import SOURCE as SEEDS

Mask = NDArray[np.bool_]

# Most prompts of one category, source and language; more would cost time without adding accuracy.
MOST_PER_SOURCE = 3000
# The same for prompts of other domains.
MOST_OTHERS = 150
# Share of the labelled prompts, seeds excepted, that is held out for calibration.
HELD_OUT_SHARE = 0.15
# Prompts of one category, source and language that also appear as a variation; synthetic outliers made in each way.
AUGMENTED, OUTLIERS = 60, 200


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """n prompts: first those of the `categories`, then of other domains, variations, and outliers without a domain.

    Masks [n]: `held` prompts are for validation and calibration. `seen` adds their variations; no model learns from
    these until the final fit. `written` excludes variations and outliers. `stands_for` [n] is how many collected
    prompts each held prompt represents.
    """

    categories: tuple[str, ...]
    prompts: Sequence[LabelledPrompt]
    held: Mask
    seen: Mask
    written: Mask
    stands_for: NDArray[np.float64]

    @property
    def targets(self) -> NDArray[np.int64]:
        """The index of each prompt's category; the number of categories for prompts of none."""
        index = {category: number for number, category in enumerate(self.categories)}
        return np.array([index.get(prompt.domain, len(index)) for prompt in self.prompts], np.int64)


def gather(
    collected: Sequence[LabelledPrompt],
    seeds: Sequence[LabelledPrompt],
    others: Sequence[LabelledPrompt],
    rng: np.random.Generator,
) -> Corpus:
    """Assembles the corpus. The domains of `collected` and `seeds` are the categories.

    Prompts of `others` belong to one of them or to none. Seeds are never held out.
    """
    categories = tuple(sorted({prompt.domain for prompt in (*collected, *seeds)} - {""}))
    every = [prompt for prompt in distinct([*collected, *seeds, *_fresh(others, collected)]) if prompt.domain]
    known = [prompt for prompt in every if prompt.domain in categories]
    strangers = [prompt for prompt in every if prompt.domain not in categories]
    labelled = [known[row] for row in sample(known, MOST_PER_SOURCE, rng).tolist()]
    strangers = [strangers[row] for row in sample(strangers, MOST_OTHERS, rng).tolist()]
    held = (rng.random(len(labelled)) < HELD_OUT_SHARE) & np.array([prompt.source != SEEDS for prompt in labelled])
    varied_from = sample(labelled, AUGMENTED, rng)
    varied = [augmented(labelled[row], rng) for row in varied_from.tolist()]
    # Outliers are not made from held prompts, whose words would then be known.
    texts = noise.Texts.of([prompt for prompt, judged in zip(labelled, held, strict=True) if not judged])
    made = [LabelledPrompt(text, "", way) for way in noise.WAYS for text in noise.make(way, texts, OUTLIERS, rng)]
    none, no_outlier = np.zeros(len(strangers), np.bool_), np.zeros(len(made), np.bool_)
    written = len(labelled) + len(strangers)
    prompts = [*labelled, *strangers, *varied, *made]
    all_held = np.concatenate([held, none, np.zeros(len(varied), np.bool_), no_outlier])
    return Corpus(
        categories,
        prompts,
        all_held,
        np.concatenate([held, none, held[varied_from], no_outlier]),
        np.arange(len(prompts)) < written,
        _stands_for(prompts, all_held, [prompt for prompt in collected if prompt.domain]),
    )


def _fresh(others: Sequence[LabelledPrompt], collected: Sequence[LabelledPrompt]) -> list[LabelledPrompt]:
    """Others that don't end like a collected prompt: they could be copies of held-out prompts in another wrapper."""
    ends = {_end(prompt.text) for prompt in collected}
    return [prompt for prompt in others if _end(prompt.text) not in ends]


def _end(text: str) -> str:
    return "".join(text.split())[-80:]


def _stands_for(
    prompts: Sequence[LabelledPrompt], held: Mask, collected: Sequence[LabelledPrompt]
) -> NDArray[np.float64]:
    """How many collected prompts each prompt represents: 0 unless it is held out and of the same source and domain."""
    all_of = Counter((prompt.source, prompt.domain) for prompt in collected)
    held_of = Counter((prompts[row].source, prompts[row].domain) for row in np.flatnonzero(held).tolist())
    groups = [(prompt.source, prompt.domain) for prompt in prompts]
    return np.array([all_of[group] / held_of[group] if held_of[group] else 0.0 for group in groups])
