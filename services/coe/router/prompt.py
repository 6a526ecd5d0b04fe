"""What the router accepts, and which of its text is classified. Pure."""

from collections.abc import Iterable, Sequence

from coe._proto import common_pb2, events_pb2
from coe.platform import prompts
from coe.platform.errors import InvalidPrompt

# Nothing looks further into a text than this, from its start or from its end: more would only cost time.
START, END = 6_144, 2_048
# Functions that the text names, as the prompts do that the category of tools was learnt from. The encoder sees a text's
# last ten tokens: more names would hide what they are.
NAMED = 2
# A client may hold a prompt for so long before it gets to the topic.
MOST_HELD_MS = 60_000
# Nothing waits on the topic for longer.
MOST_WAITED_MS = 7 * 24 * 3_600_000


def validate(prompt: events_pb2.PromptSubmitted, *, max_bytes: int) -> None:
    """Raises InvalidPrompt or PromptTooLarge when the prompt can't be answered."""
    if not prompt.request_id:
        raise InvalidPrompt("the prompt has no request_id, so its answer could not be identified")
    prompts.check(prompt, max_bytes=max_bytes)


def classified_text(
    prompt: str, messages: Iterable[common_pb2.ChatMessage], tools: Sequence[common_pb2.Tool] = ()
) -> str:
    """The text that says what is asked for: the user's turns, the latest first, and what may be called for it.

    A follow-up such as "and in German?" says nothing alone, so earlier turns are kept; the start of the text counts
    most, so the latest turn does. A long text keeps its end, where the question behind a document stands.
    """
    turns = [message.content.strip() for message in messages if message.role == "user"]
    text = "\n\n".join(turn for turn in reversed(turns) if turn) if turns else prompt.strip()
    text = text if len(text) <= START + END else f"{text[:START]}{text[-END:]}"
    names = ", ".join(tool.name for tool in tools[:NAMED])
    return f"{text}\n\nAvailable functions: {names}" if names else text


def submission_ms(claimed_ms: int, record_ms: int, now_ms: int) -> int:
    """When the prompt was submitted, which latencies count from: what its producer says if that can be, else the
    record's own timestamp, else now. All in milliseconds since 1970.
    """
    entered_ms = record_ms if now_ms - MOST_WAITED_MS <= record_ms <= now_ms else now_ms
    return claimed_ms if entered_ms - MOST_HELD_MS <= claimed_ms <= now_ms else entered_ms
