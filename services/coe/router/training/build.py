"""Puts an artifact together: fit, calibrate on prompts held out, choose the thresholds, fit on everything."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from coe.encoder import EmbeddingCache, Encoder
from coe.router.artifact import Artifact, EncoderKind
from coe.router.metrics import expected_calibration_error
from coe.router.policy import Thresholds
from coe.router.training.data import LabelledPrompt, distinct
from coe.router.training.fit import FitSettings, best_temperature, fit

Progress = Callable[[int, int], None]

# Share of the prompts that calibrate what the others trained.
CALIBRATION_SHARE = 0.2
# Of known prompts, the share that may be sent to `general` by each threshold.
MISS_RATE = 0.01


def build(
    prompts: Sequence[LabelledPrompt],
    encoder: Encoder,
    *,
    seed: int = 0,
    int8: bool,
    settings: FitSettings | None = None,
    progress: Progress | None = None,
) -> Artifact:
    """The artifact of these prompts for this encoder. Deterministic by seed."""
    settings = settings or FitSettings()
    labelled = [prompt for prompt in distinct(prompts) if prompt.domain]
    embeddings = EmbeddingCache(encoder).encode([prompt.text for prompt in labelled], progress)
    labels = [prompt.domain for prompt in labelled]
    sources = [prompt.source for prompt in labelled]
    held = np.random.default_rng(seed).random(len(labelled)) < CALIBRATION_SHARE
    trial = fit(
        embeddings[~held],
        [label for label, out in zip(labels, held, strict=True) if not out],
        [source for source, out in zip(sources, held, strict=True) if not out],
        settings=settings,
        seed=seed,
    )
    targets = np.array([trial.categories.index(label) for label, out in zip(labels, held, strict=True) if out])
    temperature = best_temperature(trial.scores(embeddings[held]).probabilities, targets)
    scores = replace(trial, temperature=temperature).scores(embeddings[held])
    confidence = scores.probabilities.max(1)
    correct = scores.probabilities.argmax(1) == targets
    figures = {
        "held_out_accuracy": float(correct.mean()),
        "held_out_ece": expected_calibration_error(confidence, correct),
    }
    thresholds = Thresholds(
        confidence=float(np.quantile(confidence, MISS_RATE)),
        out_of_distribution=float(np.quantile(scores.out_of_distribution, 1 - MISS_RATE)),
    )
    model = fit(embeddings, labels, sources, settings=settings, seed=seed, temperature=temperature)
    kind = EncoderKind(encoder.fingerprint, encoder.max_tokens, encoder.tail_tokens, int8)
    version = _version(labelled, encoder, seed)
    return Artifact(model, thresholds, kind, version, {name: round(value, 4) for name, value in figures.items()})


def _version(prompts: Sequence[LabelledPrompt], encoder: Encoder, seed: int) -> str:
    """Equal for equal inputs: data, encoder, seed."""
    digest = hashlib.sha256(f"{encoder.fingerprint} {seed}".encode())
    for prompt in prompts:
        digest.update(f"{prompt.domain}\0{prompt.source}\0{prompt.text}\0".encode("utf-8", "surrogatepass"))
    return f"router-{digest.hexdigest()[:12]}"
