"""Log-probabilities in the form of /v1/chat/completions and /v1/responses."""

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import Field

from coe._proto import common_pb2
from coe.experts.sampling_params import MAX_TOP_LOGPROBS

TopLogprobs = Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)]


def told(tokens: Iterable[common_pb2.TokenLogprob]) -> list[dict[str, Any]]:
    return [_one(token) | {"top_logprobs": [_one(likely) for likely in token.likeliest]} for token in tokens]


def _one(token: common_pb2.TokenLogprob) -> dict[str, Any]:
    # A token may end in the middle of a character.
    text = token.token.decode(errors="replace")
    return {"token": text, "logprob": token.logprob, "bytes": list(token.token)}
