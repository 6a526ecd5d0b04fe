"""Puts an artifact together: featurise, validate on held-out prompts and sources, calibrate, fit on everything."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coe.encoder import EmbeddingCache, Encoder
from coe.router.artifact import Artifact, EncoderKind
from coe.router.model import Features, Heads, Neighbours, RouterModel, outlier_features
from coe.router.novelty import Spelling
from coe.router.training import calibrate, noise
from coe.router.training.augment import augmented
from coe.router.training.data import LabelledPrompt, distinct
from coe.router.training.featurise import Featuriser, Progress
from coe.router.training.fit import FitSettings, fit_heads, neighbours, sample
from coe.router.training.seeds import SOURCE as SEEDS
from coe.router.training.validate import leave_sources_out, scored

# More prompts of one source add time and no accuracy.
MOST_PER_SOURCE = 2000
# Share of the collected prompts that is held out to calibrate on.
HELD_OUT_SHARE = 0.1
# Prompts of one source and language that also appear in a variation, and made outliers of each kind.
AUGMENTED, OUTLIERS = 60, 200


@dataclass(frozen=True, slots=True)
class Trained:
    artifact: Artifact
    # Share of right best categories in each source that was left out.
    unseen: dict[str, float]
    # AUROC of each kind of outlier against prompts of seen sources, by a score that was not trained on that kind.
    outliers: dict[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class _Set:
    """Prompts with their features and targets."""

    prompts: Sequence[LabelledPrompt]
    features: Features
    targets: NDArray[np.int64]

    def __getitem__(self, rows: NDArray[np.bool_]) -> "_Set":
        kept = [self.prompts[row] for row in np.flatnonzero(rows).tolist()]
        return _Set(kept, self.features[rows], self.targets[rows])

    def __add__(self, other: "_Set") -> "_Set":
        mine, theirs = self.features, other.features
        features = Features(
            np.concatenate([mine.embeddings, theirs.embeddings]),
            [*mine.lexical, *theirs.lexical],
            np.concatenate([mine.spelling, theirs.spelling]),
        )
        return _Set([*self.prompts, *other.prompts], features, np.concatenate([self.targets, other.targets]))


def build(
    collected: Sequence[LabelledPrompt],
    seeds: Sequence[LabelledPrompt],
    encoder: Encoder,
    *,
    int8: bool,
    seed: int = 0,
    settings: FitSettings | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Trained:
    """The artifact of these prompts for this encoder. Deterministic by seed. Seeds are never held out."""
    settings = settings or FitSettings()
    rng = np.random.default_rng(seed)
    every = [prompt for prompt in distinct([*collected, *seeds]) if prompt.domain]
    labelled = [every[row] for row in sample(every, MOST_PER_SOURCE, rng).tolist()]
    categories = tuple(sorted({prompt.domain for prompt in labelled}))
    spelling = Spelling.of(prompt.text for prompt in labelled)
    featurise = Featuriser(EmbeddingCache(encoder), spelling, progress)

    def as_set(prompts: Sequence[LabelledPrompt]) -> _Set:
        targets = np.array([categories.index(prompt.domain) for prompt in prompts])
        return _Set(prompts, featurise([prompt.text for prompt in prompts]), targets)

    original = as_set(labelled)
    varied_from = sample(labelled, AUGMENTED, rng)
    varied = as_set([augmented(labelled[row], rng) for row in varied_from.tolist()])
    may_be_held = np.array([prompt.source != SEEDS for prompt in labelled])
    held = (rng.random(len(labelled)) < HELD_OUT_SHARE) & may_be_held

    heads, near = _fit(original[~held] + varied[~held[varied_from]], len(categories), settings, seed)
    seen = scored(heads, near, original[held].features, original[held].targets, group="seen")
    unseen = leave_sources_out(original.features, original.targets, labelled, len(categories), settings, seed, progress)
    strange = {}
    texts = [prompt.text for prompt in original[held].prompts]
    for kind in noise.KINDS:
        made = featurise(noise.make(kind, texts, OUTLIERS, rng))
        _, distance = near.votes(made.embeddings, len(categories))
        strange[kind] = outlier_features(heads.logits(made), distance, made.spelling)
    outlier, outlier_figures, judged = calibrate.outliers(seen, strange, rng)
    temperature = calibrate.temperature(seen, unseen)
    confidence = calibrate.probabilities(unseen, temperature, settings.neighbour_share).max(1)
    limits = calibrate.thresholds(unseen, confidence, calibrate.strangeness(outlier, seen.outlier[judged]))
    figures = calibrate.figures(seen, unseen, temperature, settings.neighbour_share, limits)
    figures["outlier_auroc"] = calibrate.mean(list(outlier_figures.values()))

    heads, near = _fit(original + varied, len(categories), settings, seed)
    none = np.zeros((0, encoder.dimensions), np.float32)
    model = RouterModel(
        categories, heads, near, settings.neighbour_share, temperature, outlier, none, np.zeros(0, np.float32)
    )
    kind_of_encoder = EncoderKind(encoder.fingerprint, encoder.max_tokens, encoder.tail_tokens, int8)
    rounded = {name: round(value, 4) for name, value in figures.items()}
    return Trained(Artifact(model, spelling, limits, kind_of_encoder, rounded), unseen.accuracy(), outlier_figures)


def _fit(data: _Set, categories: int, settings: FitSettings, seed: int) -> tuple[Heads, Neighbours]:
    kept = np.zeros(len(data.prompts), np.bool_)
    kept[sample(data.prompts, settings.per_source, np.random.default_rng(seed))] = True
    part = data[kept]
    heads = fit_heads(part.features, part.targets, part.prompts, categories, settings)
    return heads, neighbours(part.features, part.targets, part.prompts, settings, seed)
