"""What an expert is asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from coe._proto import events_pb2

# "role" and "content", as chat templates know it.
Turn = Mapping[str, Any]


@dataclass(frozen=True)
class Conversation:
    """Turns, the last of them to be answered."""

    turns: Sequence[Turn]

    @classmethod
    def of(cls, text: str) -> Self:
        """One user's message."""
        return cls(({"role": "user", "content": text},))

    @classmethod
    def from_proto(cls, prompt: events_pb2.PromptSubmitted) -> Self:
        if not prompt.messages:
            return cls.of(prompt.prompt)
        return cls(tuple({"role": turn.role, "content": turn.content} for turn in prompt.messages))
