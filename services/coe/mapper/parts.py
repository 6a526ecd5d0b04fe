"""Finds the part of its category that a prompt belongs to. Blocking: call it in a thread."""

from collections.abc import Iterable, Sequence

from coe._proto import common_pb2
from coe.encoder import Encoder, EncoderSpec
from coe.mapper.refiner import Refiner
from coe.mapper.refiner_file import EncoderKind
from coe.platform.errors import ArtifactError

# How prompts are embedded, in training as online.
PART_ENCODER = EncoderSpec(max_tokens=256, threads=2)
# The encoder looks at a few hundred tokens at most.
MAX_CHARS = 16_384


class PartFinder:
    """A refiner with its encoder. Raises ArtifactError when they don't belong together."""

    def __init__(self, refiner: Refiner, kind: EncoderKind, encoder: Encoder) -> None:
        if kind.fingerprint != encoder.fingerprint:
            raise ArtifactError(
                "The mapping's parts were learned with another encoder: solve the mapping again",
                trained_with=kind.fingerprint,
                encoder=encoder.fingerprint,
            )
        self._refiner = refiner
        self._encoder = encoder

    def find(self, categories: Sequence[str], texts: Sequence[str]) -> list[str]:
        """The part of each text that is known to be of its category; empty where the category has no parts."""
        known = [row for row, category in enumerate(categories) if self._refiner.has(category)]
        found = [""] * len(texts)
        if known:
            embeddings = self._encoder.encode([texts[row] for row in known])
            for position, row in enumerate(known):
                found[row] = self._refiner.refine(categories[row], [texts[row]], embeddings[[position]])[0]
        return found


def asked_text(prompt: str, messages: Iterable[common_pb2.ChatMessage]) -> str:
    """The text that says what is asked: the prompt, or of a conversation the user's turns, the latest first."""
    turns = [message.content for message in messages if message.role == "user"]
    return ("\n\n".join(reversed(turns)) if turns else prompt)[:MAX_CHARS]
