"""What benches ask, and how many tokens it has."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile

from coe.experts.bundle import Bundle
from coe.experts.conversation import Conversation
from coe.experts.graph import KV_BLOCK_TOKENS
from coe.experts.tokenizer import ExpertTokenizer

SUBJECTS = ("bridges", "enzymes", "contracts", "integrals", "bonds", "sonnets", "compilers", "glaciers")


def alike(index: int) -> str:
    """All of one length, but for the number's digits; no two alike."""
    return f"Tell me something about {SUBJECTS[index % len(SUBJECTS)]}, number {index}."


def unlike(index: int) -> str:
    """They have nothing in common but the chat template: what of them is computed once is simple to say."""
    return f"Number {index}: tell me something about {SUBJECTS[index % len(SUBJECTS)]}."


@dataclass(frozen=True, slots=True)
class Asked:
    """Tokens of prompts: of each, of what all begin with, and of what the two most alike begin with. Beginnings are in
    whole blocks of the KV cache: so much of a prompt is not computed again.
    """

    lengths: list[int]
    shared: int
    most_shared: int


def asked(expert: Bundle, prompts: int, ask: Callable[[int], str]) -> Asked:
    """The first so many prompts as this expert reads them."""
    tokenizer = ExpertTokenizer.of(expert)
    ids = [tokenizer.encode_prompt(Conversation.of(ask(index))) for index in range(prompts)]
    blocks = [tokens // KV_BLOCK_TOKENS * KV_BLOCK_TOKENS for tokens in beginnings(ids)]
    return Asked([len(one) for one in ids], *blocks)


def beginnings(prompts: Sequence[list[int]]) -> tuple[int, int]:
    """Tokens that all of them begin with, and that the two most alike begin with."""
    ordered = sorted(prompts)
    # The first and the last are the least alike; those that are most alike are neighbours.
    return _common(ordered[0], ordered[-1]), max((_common(*pair) for pair in pairwise(ordered)), default=0)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens that both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
