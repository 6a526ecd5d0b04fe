"""Builds an artifact: featurises, validates on held-out prompts, calibrates, and fits on everything."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from coe.encoder import EmbeddingCache, Encoder
from coe.platform.errors import ArtifactError
from coe.router.artifact import Artifact, EncoderKind
from coe.router.model import RouterModel
from coe.router.policy import GENERAL
from coe.router.training.calibrate import calibrate
from coe.router.training.corpus import Corpus, gather
from coe.router.training.data import LabelledPrompt
from coe.router.training.featurise import Featuriser, Progress
from coe.router.training.figures import PARTS, Figures, figures, nested
from coe.router.training.fit import FitSettings, sample
from coe.router.training.folds import Round, domain_rounds, source_rounds
from coe.router.training.novelty import fit_novelty, out_of_source
from coe.router.training.seeds import SOURCE as SEEDS
from coe.router.training.table import Table
from coe.router.training.validate import SEEN, HeldOut, fit, joined, leave_out, scored


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
    """Trains an artifact on these prompts for this encoder. Deterministic for a given seed.

    See `gather` for the roles of the three collections of prompts. Raises ArtifactError when too few prompts have a
    domain to hold out some for calibration.
    """
    settings = settings or FitSettings()
    corpus = gather(collected, seeds, others, np.random.default_rng(seed))
    if corpus.held.sum() < PARTS:
        labelled = sum(bool(prompt.domain) for prompt in collected)
        message = f"too few prompts to train on: {labelled} with a domain, where some fifty are the least"
        raise ArtifactError(message, labelled=labelled)
    vocabulary = encoder.vocabulary()
    text = out_of_source(
        corpus.prompts,
        corpus.written & ~corpus.held,
        corpus.held,
        vocabulary,
        seed,
        lambda done, total: progress("Reading texts", done, total),
    )
    features = Featuriser(EmbeddingCache(encoder), progress)([prompt.text for prompt in corpus.prompts], text)
    table = Table(corpus.prompts, features, corpus.targets)

    scores = _held_out(corpus, table, settings, seed, progress)
    judged = nested(scores, settings.neighbour_share)
    found = figures(scores, judged, corpus.stands_for[corpus.held])
    chosen = calibrate(scores, settings.neighbour_share)

    heads, near = fit(_capped(table, settings, seed), len(corpus.categories), settings, seed)
    no_gate = np.zeros((0, encoder.dimensions), np.float32)
    model = RouterModel(
        corpus.categories,
        heads,
        near,
        settings.neighbour_share,
        chosen.temperature,
        chosen.detectors,
        no_gate,
        no_gate[:, 0],
    )
    written = [corpus.prompts[row] for row in np.flatnonzero(corpus.written).tolist()]
    novelty = fit_novelty(written, vocabulary, np.random.default_rng(seed))
    summary = {name: round(value, 4) for name, value in found.summary.items()}
    return Trained(Artifact(model, novelty, chosen.thresholds, kind, summary), found)


def _held_out(corpus: Corpus, table: Table, settings: FitSettings, seed: int, progress: Progress) -> HeldOut:
    """Scores of the held prompts and of the prompts of each round, all by models that did not see them."""
    count = len(corpus.categories)
    heads, near = fit(_capped(table[~corpus.seen], settings, seed), count, settings, seed)
    ordinary = scored(heads, near, table[np.flatnonzero(corpus.held)], SEEN)
    others = leave_out(table, _rounds(corpus), corpus.seen, count, settings, seed, progress)
    return joined([ordinary, *others])


def _rounds(corpus: Corpus) -> list[Round]:
    labelled = [prompt for prompt in corpus.prompts if prompt.domain in corpus.categories]
    names = sorted({prompt.source for prompt in corpus.prompts if prompt.domain not in corpus.categories})
    tested = sorted({prompt.domain for prompt in labelled if prompt.source != SEEDS} - {GENERAL})
    return [*source_rounds(labelled, names), *domain_rounds(tested)]


def _capped(table: Table, settings: FitSettings, seed: int) -> Table:
    return table[sample(table.prompts, settings.per_source, np.random.default_rng(seed))]
