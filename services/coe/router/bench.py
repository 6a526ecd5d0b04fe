"""Measurements of `coe bench router`: how fast prompts are classified, tokenisation included."""

import time
from collections.abc import Iterator

import numpy as np

from coe.router.classifier import Classifier

# Words of one token each.
VOCABULARY = (
    "water",
    "river",
    "number",
    "python",
    "doctor",
    "table",
    "law",
    "music",
    "price",
    "house",
    "train",
    "light",
)
TOKENS = 128
WARM_UP = 5


def prompts(count: int) -> Iterator[str]:
    """Random prompts of 128 tokens, two of them special tokens."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield " ".join(VOCABULARY[index] for index in rng.integers(len(VOCABULARY), size=TOKENS - 2))


def latency(classifier: Classifier, runs: int = 200) -> dict[str, float]:
    """Percentiles of the latency in milliseconds, one prompt at a time."""
    taken = []
    for number, text in enumerate(prompts(runs + WARM_UP)):
        started = time.perf_counter()
        classifier.classify([text])
        if number >= WARM_UP:
            taken.append((time.perf_counter() - started) * 1e3)
    return {
        "latency_p50_ms": round(float(np.percentile(taken, 50)), 3),
        "latency_p95_ms": round(float(np.percentile(taken, 95)), 3),
    }


def throughput(classifier: Classifier, batch: int = 64, batches: int = 8) -> float:
    """Prompts per second in micro-batches."""
    texts = list(prompts(batch * (batches + 1)))
    classifier.classify(texts[:batch])
    started = time.perf_counter()
    for number in range(1, batches + 1):
        classifier.classify(texts[number * batch : (number + 1) * batch])
    return round(batch * batches / (time.perf_counter() - started), 1)
