"""What a router is trained and judged on: prompts, seeds, other domains, variations and made outliers. Pure."""

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

# Most prompts of one source and language; more add time and no accuracy.
MOST_PER_SOURCE = 3000
# Most prompts of one source of other domains.
MOST_OTHERS = 150
# Share of the collected prompts that is held out to calibrate on.
HELD_OUT_SHARE = 0.15
# Prompts of one source and language that also appear in a variation, and made outliers of each way.
AUGMENTED, OUTLIERS = 60, 200


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """n prompts: of the `categories`, then of other domains, variations, and outliers, which have no domain.

    Masks [n]: `held` prompts are judged on, and until then nothing learns from `seen` ones: these and their variations.
    `written` prompts are what people wrote, no variations and outliers. `stands_for` [n] is how many collected prompts
    each of the held ones represents.
    """

    categories: tuple[str, ...]
    prompts: Sequence[LabelledPrompt]
    held: Mask
    seen: Mask
    written: Mask
    stands_for: NDArray[np.float64]

    @property
    def targets(self) -> NDArray[np.int64]:
        """The category of each prompt, their number for what belongs to none."""
        index = {category: number for number, category in enumerate(self.categories)}
        return np.array([index.get(prompt.domain, len(index)) for prompt in self.prompts], np.int64)


def gather(
    collected: Sequence[LabelledPrompt],
    seeds: Sequence[LabelledPrompt],
    others: Sequence[LabelledPrompt],
    rng: np.random.Generator,
) -> Corpus:
    """The domains of `collected` and `seeds` are the categories; prompts of `others` are in one of them or in none.

    Seeds are never held out.
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
    # Outliers are not made from held prompts: their words would be known.
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
    """Others that don't end as a collected prompt does: a copy in another wrapper would be seen while held out."""
    ends = {_end(prompt.text) for prompt in collected}
    return [prompt for prompt in others if _end(prompt.text) not in ends]


def _end(text: str) -> str:
    return "".join(text.split())[-80:]


def _stands_for(
    prompts: Sequence[LabelledPrompt], held: Mask, collected: Sequence[LabelledPrompt]
) -> NDArray[np.float64]:
    """Other collections' prompts stand for none."""
    all_of = Counter((prompt.source, prompt.domain) for prompt in collected)
    held_of = Counter((prompts[row].source, prompts[row].domain) for row in np.flatnonzero(held).tolist())
    groups = [(prompt.source, prompt.domain) for prompt in prompts]
    return np.array([all_of[group] / held_of[group] if held_of[group] else 0.0 for group in groups])
