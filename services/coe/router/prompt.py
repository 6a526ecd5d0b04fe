"""What the router accepts, and which of its text is classified. Pure."""

from collections.abc import Iterable, Sequence

from coe._proto import common_pb2, events_pb2
from coe.platform.errors import InvalidPrompt, PromptTooLarge

ROLES = frozenset({"system", "user", "assistant"})
# The encoder looks at a few hundred tokens at most: more text would only cost time.
MAX_CLASSIFIED_CHARS = 8_192


def validate(prompt: events_pb2.PromptSubmitted, *, max_bytes: int) -> None:
    """Raises InvalidPrompt or PromptTooLarge when the prompt can't be answered."""
    if not prompt.request_id:
        raise InvalidPrompt("the prompt has no request_id, so its answer would have no name")
    validate_text(prompt.prompt, prompt.messages, max_bytes=max_bytes)


def validate_text(prompt: str, messages: Sequence[common_pb2.ChatMessage], *, max_bytes: int) -> None:
    """Raises InvalidPrompt or PromptTooLarge."""
    size = sum(len(text.encode()) for text in (prompt, *(message.content for message in messages)))
    if size > max_bytes:
        raise PromptTooLarge(f"the prompt has {size} bytes, the limit is {max_bytes}", bytes=size, limit=max_bytes)
    if prompt and messages:
        raise InvalidPrompt("give either a prompt or messages, not both")
    unknown = next((message.role for message in messages if message.role not in ROLES), None)
    if unknown is not None:
        raise InvalidPrompt(f"unknown role {unknown!r}: expected system, user or assistant", role=unknown)
    if messages and messages[-1].role != "user":
        raise InvalidPrompt("the last message of a conversation must be the user's")


def classified_text(prompt: str, messages: Iterable[common_pb2.ChatMessage]) -> str:
    """The text that says what is asked for: the user's turns, the latest first.

    A follow-up such as "and in German?" says nothing alone, so earlier turns are kept; the encoder truncates at its
    end, so the latest turn counts most.
    """
    turns = [message.content.strip() for message in messages if message.role == "user"]
    text = "\n\n".join(turn for turn in reversed(turns) if turn) if turns else prompt.strip()
    return text[:MAX_CLASSIFIED_CHARS]
