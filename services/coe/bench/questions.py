"""The prompts that benchmarks ask, and their token counts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile

from coe.experts.bundle import Bundle
from coe.experts.conversation import Conversation
from coe.experts.graph import KV_BLOCK_TOKENS
from coe.experts.tokenizer import ExpertTokenizer

SUBJECTS = ("bridges", "enzymes", "contracts", "integrals", "bonds", "sonnets", "compilers", "glaciers")


def alike(index: int) -> str:
    """Distinct prompts with the same beginning, whose lengths differ only by the digits of the number."""
    return f"Tell me something about {SUBJECTS[index % len(SUBJECTS)]}, number {index}."


def unlike(index: int) -> str:
    """Prompts that share only the chat template, so it is plain how much of them is computed only once."""
    return f"Number {index}: tell me something about {SUBJECTS[index % len(SUBJECTS)]}."


@dataclass(frozen=True, slots=True)
class Asked:
    """Token counts: of each prompt, of the prefix of all prompts, and of the longest prefix of any two.

    Prefixes are in whole KV-cache blocks, as that much of a prompt is not computed again.
    """

    lengths: list[int]
    shared: int
    most_shared: int


def asked(expert: Bundle, prompts: int, ask: Callable[[int], str]) -> Asked:
    """Counts the tokens of the first `prompts` prompts for this expert."""
    tokenizer = ExpertTokenizer.of(expert)
    ids = [tokenizer.encode_prompt(Conversation.of(ask(index))) for index in range(prompts)]
    blocks = [tokens // KV_BLOCK_TOKENS * KV_BLOCK_TOKENS for tokens in beginnings(ids)]
    return Asked([len(one) for one in ids], *blocks)


def beginnings(prompts: Sequence[list[int]]) -> tuple[int, int]:
    """Lengths of the prefix of all prompts and of the longest prefix of any two."""
    ordered = sorted(prompts)
    # In sorted order, the first and the last share the least, and the two that share the most are neighbours.
    return _common(ordered[0], ordered[-1]), max((_common(*pair) for pair in pairwise(ordered)), default=0)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common prefix."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
