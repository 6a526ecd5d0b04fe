"""Prompts that train in seconds, and an encoder that tells them apart."""

from collections.abc import Sequence

import numpy as np

from coe.router import artifact as artifacts
from coe.router.training.data import LabelledPrompt
from coe.router.training.fit import FitSettings

FAST = FitSettings(k=5, iterations=5)
KIND = artifacts.EncoderKind("words-1", 36, 0, True, 5)
OTHERS = [LabelledPrompt(f"a tulip and a rose in bed {number}", "botany", "flowers") for number in range(12)]


class WordEncoder:
    """Embeds a text by which of a few words it has: enough to tell small categories apart."""

    name = "words"
    fingerprint = "words-1"
    max_tokens, tail_tokens, dimensions = 36, 0, 16
    words = ("python", "loop", "sum", "poem", "sea", "love", "court", "contract", "judge", "tulip", "rose", "garden")

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.array(
            [[0.01, 0.01, 0.01, 0.01, *(float(word in text.lower()) for word in self.words)] for text in texts]
        )
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def vocabulary(self) -> list[str]:
        return [*self.words, "please", "tell", "about", "number", "what"]


def prompts() -> list[LabelledPrompt]:
    topics = {
        "coding": ("python", "loop", "sum"),
        "general": ("poem", "sea", "love"),
        "law": ("court", "contract", "judge"),
    }
    frames = {"a": "please tell me about the {} number {}", "b": "{} and {} what is it"}
    english = [
        LabelledPrompt(frame.format(topic, number), domain, f"{domain} {source}", "en")
        for domain, words in topics.items()
        for topic in words
        for source, frame in frames.items()
        for number in range(6)
    ]
    german = [LabelledPrompt(f"{word}: was ist das denn nun?", "law", "law a", "de") for word in topics["law"]]
    return [*english, *german]
