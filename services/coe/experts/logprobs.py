"""Log probabilities of tokens, from the expert's raw logits: before temperature, penalties and grammars."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from coe.experts.sampler import Logits, top_ids

# The lowest logprob reported: JSON has no infinity.
LEAST = -9999.0


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """The logprob of a token, and of the likeliest tokens in its place (whose own `likeliest` is empty)."""

    token: bytes
    logprob: float
    likeliest: tuple["TokenLogprob", ...] = ()


def token_logprob(logits: Logits, token: int, top: int, spell: Callable[[int], bytes]) -> TokenLogprob:
    """The logprob of `token` under `logits` [V], with the `top` likeliest tokens, in descending order. Ties: lowest id
    first.

    `spell` gives a token's bytes.
    """
    wide = logits.astype(np.float64)
    peak = wide.max()
    whole = peak + np.log(np.exp(wide - peak).sum())

    def of(one: int, likeliest: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
        return TokenLogprob(spell(one), max(LEAST, float(wide[one] - whole)), likeliest)

    return of(token, tuple(of(one) for one in top_ids(logits, top).tolist()) if top else ())


class PromptLogprobs:
    """The logprobs of a prompt's tokens computed so far. The first token has 0: nothing precedes it."""

    def __init__(self, prompt: Sequence[int], top: int, spell: Callable[[int], bytes]) -> None:
        self._prompt = prompt
        self._top = top
        self._spell = spell
        self.told = [TokenLogprob(spell(prompt[0]), 0.0)]

    def grow(self, logits: Logits) -> None:
        """Adds the logprobs of the next tokens. `logits` [rows, V] are those of the tokens before them."""
        for row in logits:
            self.told.append(token_logprob(row, self._prompt[len(self.told)], self._top, self._spell))
