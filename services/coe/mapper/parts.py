"""Which part of its category a prompt belongs to. Pure."""

from collections.abc import Iterable

from coe._proto import common_pb2, events_pb2
from coe.mapper.refiner import Refiner
from coe.mapper.text_features import MAX_CHARS


def part_of(refiner: Refiner | None, routed: events_pb2.PromptRouted) -> str:
    """The sub-category that the router knows, else the refiner's; empty for a prompt that names its expert."""
    prompt, routing = routed.prompt, routed.routing
    if routing.subcategory or prompt.expert_id or refiner is None or not refiner.has(routing.category):
        return routing.subcategory
    return refiner.refine(routing.category, [asked_text(prompt.prompt, prompt.messages)])[0]


def asked_text(prompt: str, messages: Iterable[common_pb2.ChatMessage]) -> str:
    """The text that says what is asked: the prompt, or of a conversation the user's turns, the latest first."""
    turns = [message.content for message in messages if message.role == "user"]
    return ("\n\n".join(reversed(turns)) if turns else prompt)[:MAX_CHARS]
