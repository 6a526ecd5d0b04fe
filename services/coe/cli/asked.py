"""Options and checks that several commands share: answer length, UTF-8 text, known names."""

from collections.abc import Collection, Iterable
from typing import Annotated

import typer

from coe.experts.sampling_params import DEFAULT_TOKENS
from coe.platform.errors import InvalidPrompt

# None: the default of a prompt that sets no limit.
MaxTokens = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=2**32 - 1,
        help="Maximum number of tokens in the answer.",
        show_default=f"what the expert's context leaves, at most {DEFAULT_TOKENS:,}",
    ),
]


def utf8(text: str, what: str) -> str:
    """The text. Raises InvalidPrompt if the bytes given to `what` are not valid UTF-8."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidPrompt(f"{what} is not UTF-8 text")
    return text


def known(what: str, names: Iterable[str], all_: Collection[str]) -> None:
    """Raises InvalidPrompt for an unknown name, before any work is done."""
    for name in names:
        if name not in all_:
            raise InvalidPrompt(f"unknown {what} {name!r}: must be one of {', '.join(all_)}")
