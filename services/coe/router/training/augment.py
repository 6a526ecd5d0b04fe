"""Augments prompts with typing errors, other casing and wrappers. Deterministic for a given generator."""

from dataclasses import replace

import numpy as np

from coe.router.training.data import LabelledPrompt

WRAPPERS = (
    "{}\nAnswer:",
    "Question: {}",
    "Please help me with the following.\n\n{}",
    "You are a helpful assistant.\n\nUser: {}\nAssistant:",
    "### Instruction:\n{}\n\n### Response:",
    "{} Think step by step.",
    "hi, {} thx",
    "Answer the following question.\n{}",
)
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def augmented(prompt: LabelledPrompt, rng: np.random.Generator) -> LabelledPrompt:
    """A variation of the prompt, chosen at random."""
    kind = int(rng.integers(4))
    text = prompt.text
    if kind == 0:
        text = typing_errors(text, 0.04, rng)
    elif kind == 1:
        text = text.lower() if rng.random() < 0.7 else text.upper()
    else:
        text = WRAPPERS[int(rng.integers(len(WRAPPERS)))].replace("{}", text)
        if kind == 3:
            text = typing_errors(text, 0.03, rng)
    return replace(prompt, text=text)


def typing_errors(text: str, rate: float, rng: np.random.Generator) -> str:
    """Each letter is dropped, doubled, swapped with the next one or replaced, with probability `rate`."""
    letters = list(text)
    for index in np.flatnonzero(rng.random(len(letters)) < rate):
        if not letters[index].isalpha():
            continue
        match int(rng.integers(4)):
            case 0:
                letters[index] = ""
            case 1:
                letters[index] *= 2
            case 2 if index + 1 < len(letters):
                letters[index], letters[index + 1] = letters[index + 1], letters[index]
            case _:
                letters[index] = LETTERS[int(rng.integers(len(LETTERS)))]
    return "".join(letters)
