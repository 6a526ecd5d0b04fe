"""Puts an artifact together: featurise, validate on what is left out, calibrate, fit on everything."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from coe.encoder import EmbeddingCache, Encoder
from coe.router.artifact import Artifact, EncoderKind
from coe.router.model import RouterModel
from coe.router.novelty import Spelling
from coe.router.policy import GENERAL
from coe.router.training import noise
from coe.router.training.augment import augmented
from coe.router.training.calibrate import calibrate
from coe.router.training.data import LabelledPrompt, distinct
from coe.router.training.featurise import Featuriser, Progress
from coe.router.training.figures import Figures, figures, nested
from coe.router.training.fit import FitSettings, sample
from coe.router.training.folds import domain_rounds, source_rounds
from coe.router.training.seeds import SOURCE as SEEDS
from coe.router.training.table import Table
from coe.router.training.validate import SEEN, HeldOut, fit, joined, leave_out, scored

# Most prompts of one source and language; more add time and no accuracy.
MOST_PER_SOURCE = 800
# Most prompts of one source of other domains.
MOST_OTHERS = 150
# Share of the collected prompts that is held out to calibrate on.
HELD_OUT_SHARE = 0.15
# Prompts of one source and language that also appear in a variation, and made outliers of each kind.
AUGMENTED, OUTLIERS = 60, 250


@dataclass(frozen=True, slots=True)
class Trained:
    artifact: Artifact
    figures: Figures


def build(
    collected: Sequence[LabelledPrompt],
    seeds: Sequence[LabelledPrompt],
    encoder: Encoder,
    *,
    kind: EncoderKind,
    others: Sequence[LabelledPrompt] = (),
    seed: int = 0,
    settings: FitSettings | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Trained:
    """The artifact of these prompts for this encoder. Deterministic by seed. Seeds are never held out.

    The domains of `collected` and `seeds` are the categories; prompts of `others` are in one of them or in none.
    """
    settings = settings or FitSettings()
    rng = np.random.default_rng(seed)
    categories = tuple(sorted({prompt.domain for prompt in (*collected, *seeds)} - {""}))
    every = [prompt for prompt in distinct([*collected, *seeds, *_fresh(others, collected)]) if prompt.domain]
    known = [prompt for prompt in every if prompt.domain in categories]
    strangers = [prompt for prompt in every if prompt.domain not in categories]
    labelled = [known[row] for row in sample(known, MOST_PER_SOURCE, rng).tolist()]
    strangers = [strangers[row] for row in sample(strangers, MOST_OTHERS, rng).tolist()]
    spelling = Spelling.of(prompt.text for prompt in labelled)
    featurise = Featuriser(EmbeddingCache(encoder), spelling, progress)

    def table(prompts: Sequence[LabelledPrompt]) -> Table:
        index = {category: number for number, category in enumerate(categories)}
        targets = np.array([index.get(prompt.domain, len(categories)) for prompt in prompts], np.int64)
        return Table(prompts, featurise([prompt.text for prompt in prompts]), targets)

    held = (rng.random(len(labelled)) < HELD_OUT_SHARE) & np.array([prompt.source != SEEDS for prompt in labelled])
    varied_from = sample(labelled, AUGMENTED, rng)
    varied = [augmented(labelled[row], rng) for row in varied_from.tolist()]
    texts = [prompt.text for prompt in labelled if prompt.source != SEEDS]
    made = [LabelledPrompt(text, "", name) for name in noise.KINDS for text in noise.make(name, texts, OUTLIERS, rng)]
    everything = table([*labelled, *varied, *strangers, *made])
    seen = np.concatenate([held, held[varied_from], np.zeros(len(strangers) + len(made), np.bool_)])

    heads, near = fit(_capped(everything[~seen], settings, seed), len(categories), settings, seed)
    ordinary = everything[np.flatnonzero(held)]
    parts = [scored(heads, near, ordinary, SEEN)]
    names = sorted({prompt.source for prompt in (*strangers, *made)})
    tested = sorted({prompt.domain for prompt in labelled if prompt.source != SEEDS} - {GENERAL})
    rounds = [*source_rounds(labelled, names), *domain_rounds(tested)]
    parts.append(leave_out(everything, rounds, seen, len(categories), settings, seed, progress))
    scores: HeldOut = joined(parts)
    of_source = Counter((prompt.source, prompt.domain) for prompt in known)
    of_held = Counter((prompt.source, prompt.domain) for prompt in ordinary.prompts)
    natural = np.array(
        [of_source[prompt.source, prompt.domain] / of_held[prompt.source, prompt.domain] for prompt in ordinary.prompts]
    )
    found = figures(scores, nested(scores, settings.neighbour_share), natural)
    chosen = calibrate(scores, settings.neighbour_share)

    heads, near = fit(_capped(everything, settings, seed), len(categories), settings, seed)
    none = np.zeros((0, encoder.dimensions), np.float32)
    model = RouterModel(
        categories, heads, near, settings.neighbour_share, chosen.temperature, chosen.outlier, none, none[:, 0]
    )
    summary = {name: round(value, 4) for name, value in found.summary.items()}
    return Trained(Artifact(model, spelling, chosen.thresholds, kind, summary), found)


def _fresh(others: Sequence[LabelledPrompt], collected: Sequence[LabelledPrompt]) -> list[LabelledPrompt]:
    """Others that don't end as a collected prompt does: a copy in another wrapper would be seen while held out."""
    ends = {_end(prompt.text) for prompt in collected}
    return [prompt for prompt in others if _end(prompt.text) not in ends]


def _end(text: str) -> str:
    return "".join(text.split())[-80:]


def _capped(table: Table, settings: FitSettings, seed: int) -> Table:
    return table[sample(table.prompts, settings.per_source, np.random.default_rng(seed))]
