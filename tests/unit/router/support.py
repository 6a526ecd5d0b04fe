"""A small router model with random weights."""

import numpy as np

from coe.router import features
from coe.router.artifact import Artifact, EncoderKind
from coe.router.model import OUTLIER_FEATURES, Detectors, Features, Heads, Neighbours, RouterModel, Temperature
from coe.router.novelty import Novelty
from coe.router.phrases import BUCKETS, Phrases
from coe.router.policy import Thresholds
from coe.router.spelling import Spelling

DIMENSIONS = 16
CATEGORIES = ("coding", "general", "math")
TEXTS = ["write a loop in python", "a poem about the sea", "solve x + 2 = 5", "日本の首都", "SELECT 1;"]


def unit(rng: np.random.Generator, count: int) -> np.ndarray:
    vectors = rng.normal(size=(count, DIMENSIONS)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def model(seed: int = 0, neighbour_share: float = 0.2) -> RouterModel:
    rng = np.random.default_rng(seed)
    heads = Heads(
        # In Fortran order, as scikit-learn leaves it.
        rng.normal(size=(DIMENSIONS, 4)).astype(np.float32).T,
        np.zeros(4, np.float32),
        rng.normal(size=(features.BUCKETS, 4)).astype(np.float32),
    )
    return RouterModel(
        CATEGORIES,
        heads,
        Neighbours(unit(rng, 6), np.array([0, 0, 1, 1, 2, 2]), k=2, sharpness=10),
        neighbour_share,
        Temperature(0.2, 0.5, -0.1),
        Detectors(rng.normal(size=(2, len(OUTLIER_FEATURES))).astype(np.float32) / 4, np.array([-1, -2], np.float32)),
        np.zeros((0, DIMENSIONS), np.float32),
        np.zeros(0, np.float32),
    )


def artifact(fingerprint: str = "abc") -> Artifact:
    kind = EncoderKind(fingerprint, 36, 10, True, 5)
    phrases = Phrases(np.random.default_rng(2).normal(size=BUCKETS).astype(np.float32), -1.0)
    novelty = Novelty(Spelling.of(TEXTS * 3, ["house"]), phrases)
    return Artifact(model(), novelty, Thresholds(0.4, 0.9), kind, {"seen_accuracy": 0.98})


def some_features(novelty: Novelty, seed: int = 1) -> Features:
    rng = np.random.default_rng(seed)
    return Features(
        unit(rng, len(TEXTS)),
        [features.lexical(text) for text in TEXTS],
        np.stack([novelty.features(text) for text in TEXTS]),
    )
