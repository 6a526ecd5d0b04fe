"""Generates the prompts of a load test: short questions from many fields, with random numbers in them."""

import random
from collections.abc import Iterator
from uuid import uuid4

from coe._proto import common_pb2, events_pb2
from loadtest.loadprofile import Prompts

TEMPLATES = (
    "Write a Python function that returns the sum of the first {n} odd numbers.",
    "A shop sells {n} apples for {m} euros. What does one apple cost?",
    "Which vitamins matter to somebody who is {n} years old and runs {m} km a week?",
    "Is an oral agreement about {n} euros binding, and what if one side denies it?",
    "What is the yearly return of a fund that grew by {n} percent in {m} months?",
    "「{n}月の天気」について短い文を書いてください。",
    "Translate into French: the train leaves at {n} past {m}.",
    "Good morning! I have slept {n} hours. Tell me something cheerful.",
    "Write a haiku about the number {n}.",
    "Explain why {n} is prime, or name its smallest divisor.",
)
_FILLER = "context"


def prompts(wanted: Prompts, seed: int) -> Iterator[events_pb2.PromptSubmitted]:
    """Yields prompts without end. A seed determines the prompts but not their ids, so a rerun is not deduplicated."""
    rng = random.Random(seed)
    padding = f"{_FILLER} " * wanted.padding_words
    experts = wanted.experts or (wanted.expert,)
    popularity = [1 / rank for rank in range(1, len(experts) + 1)]
    while True:
        text = rng.choice(TEMPLATES).format(n=rng.randrange(2, 1000), m=rng.randrange(2, 60))
        yield events_pb2.PromptSubmitted(
            request_id=f"load-{uuid4().hex}",
            prompt=padding + text,
            expert_id=rng.choices(experts, popularity)[0],
            category=wanted.category,
            sampling=common_pb2.SamplingParams(max_tokens=wanted.max_tokens),
        )
