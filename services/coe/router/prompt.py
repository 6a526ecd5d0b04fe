"""What the router accepts, and which of its text is classified. Pure."""

from collections.abc import Iterable

from coe._proto import common_pb2, events_pb2
from coe.platform import prompts
from coe.platform.errors import InvalidPrompt

# The encoder looks at a few hundred tokens at most: more text would only cost time.
MAX_CLASSIFIED_CHARS = 8_192


def validate(prompt: events_pb2.PromptSubmitted, *, max_bytes: int) -> None:
    """Raises InvalidPrompt or PromptTooLarge when the prompt can't be answered."""
    if not prompt.request_id:
        raise InvalidPrompt("the prompt has no request_id, so its answer would have no name")
    prompts.check(prompt, max_bytes=max_bytes)


def classified_text(prompt: str, messages: Iterable[common_pb2.ChatMessage]) -> str:
    """The text that says what is asked for: the user's turns, the latest first.

    A follow-up such as "and in German?" says nothing alone, so earlier turns are kept; the encoder truncates at its
    end, so the latest turn counts most.
    """
    turns = [message.content.strip() for message in messages if message.role == "user"]
    text = "\n\n".join(turn for turn in reversed(turns) if turn) if turns else prompt.strip()
    return text[:MAX_CLASSIFIED_CHARS]
