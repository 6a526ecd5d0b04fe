"""Validates prompts and extracts the text to classify. Pure."""

from collections.abc import Iterable, Sequence

from coe._proto import common_pb2, events_pb2
from coe.platform import prompts
from coe.platform.errors import InvalidPrompt

# Characters kept at the start and at the end of a long text. No feature looks further into it.
START, END = 6_144, 2_048
# Functions named in the text, in the way of the prompts that the tool-use category was trained on. The encoder sees the
# last ten tokens of a long text: with more names, the words that introduce them would be cut off.
NAMED = 2
# Longest credible time between a claimed submission and the record's arrival on the topic.
MOST_HELD_MS = 60_000
# Longest credible time on the topic: an older timestamp is not trusted.
MOST_WAITED_MS = 7 * 24 * 3_600_000


def validate(prompt: events_pb2.PromptSubmitted, *, max_bytes: int) -> None:
    """Raises InvalidPrompt or PromptTooLarge if the prompt can't be answered."""
    if not prompt.request_id:
        raise InvalidPrompt("the prompt has no request_id, so its answer could not be identified")
    prompts.check(prompt, max_bytes=max_bytes)


def classified_text(
    prompt: str, messages: Iterable[common_pb2.ChatMessage], tools: Sequence[common_pb2.Tool] = ()
) -> str:
    """The text to classify: the user's turns, latest first, followed by the names of the functions on offer.

    Earlier turns are kept because a follow-up such as "and in German?" says little on its own. The latest turn comes
    first because the start of the text counts most. A long text also keeps its end, where the question that follows a
    document stands.
    """
    turns = [message.content.strip() for message in messages if message.role == "user"]
    text = "\n\n".join(turn for turn in reversed(turns) if turn) if turns else prompt.strip()
    text = text if len(text) <= START + END else f"{text[:START]}{text[-END:]}"
    names = ", ".join(tool.name for tool in tools[:NAMED])
    return f"{text}\n\nAvailable functions: {names}" if names else text


def submission_ms(claimed_ms: int, record_ms: int, now_ms: int) -> int:
    """The submission time, from which latencies are measured, in milliseconds since 1970 like the arguments.

    It is the producer's claim if plausible, else the record's timestamp if plausible, else now.
    """
    entered_ms = record_ms if now_ms - MOST_WAITED_MS <= record_ms <= now_ms else now_ms
    return claimed_ms if entered_ms - MOST_HELD_MS <= claimed_ms <= now_ms else entered_ms
