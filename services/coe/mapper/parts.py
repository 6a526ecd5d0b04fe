"""Finds the part of its category that a prompt belongs to. Pure."""

from collections.abc import Iterable

from coe._proto import common_pb2, events_pb2
from coe.mapper.refiner import Refiner
from coe.mapper.text_features import MAX_CHARS


def part_of(refiner: Refiner | None, routed: events_pb2.PromptRouted) -> str:
    """The sub-category given by the router, else the part found by the refiner; empty if neither applies.

    The refiner is not asked for a prompt that names its expert.
    """
    prompt, routing = routed.prompt, routed.routing
    if routing.subcategory or prompt.expert_id or refiner is None or not refiner.has(routing.category):
        return routing.subcategory
    return refiner.refine(routing.category, [asked_text(prompt.prompt, prompt.messages)])[0]


def asked_text(prompt: str, messages: Iterable[common_pb2.ChatMessage]) -> str:
    """The start of the prompt or, for a conversation, of the user's turns, latest first."""
    turns = [message.content for message in messages if message.role == "user"]
    return ("\n\n".join(reversed(turns)) if turns else prompt)[:MAX_CHARS]
