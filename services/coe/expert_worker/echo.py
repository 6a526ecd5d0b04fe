"""The expert `echo` returns the prompt as its answer, counting words as tokens. It needs no weights and no lease.

For load tests of the pipeline; refused unless the worker allows it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from coe.expert_worker.effects import Acquire, Grant, LeaseSource, Prefetch
from coe.experts.conversation import Conversation
from coe.experts.logprobs import TokenLogprob
from coe.experts.sampling_params import SamplingParams
from coe.experts.tool_calls import ToolCall
from coe.platform.errors import CoEError, InvalidPrompt

EXPERT_ID = "echo"
# Epoch 0: valid whatever happens to the tier manager.
GRANT = Grant(lease_id=0, handle=0, epoch=0, found_in="hbm")


@dataclass(frozen=True, slots=True)
class EchoEmission:
    request_id: str
    text: str
    tokens: int
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str
    final_text: str
    tool_calls: Sequence[ToolCall] = ()
    logprobs: Sequence[TokenLogprob] = ()
    prompt_logprobs: Sequence[TokenLogprob] = ()
    guessed: int = 0
    right: int = 0
    cached_tokens: int = 0
    error: CoEError | None = None


class EchoRunner:
    """Answers every prompt in the step after it joined."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    @property
    def live(self) -> int:
        return len(self._texts)

    def add(self, request_id: str, conversation: Conversation, sampling: SamplingParams) -> None:
        if sampling.json_schema is not None:
            raise InvalidPrompt(
                "the echo expert only returns the prompt: it does not support json_schema", param="json_schema"
            )
        if conversation.tools is not None:
            raise InvalidPrompt("the echo expert only returns the prompt: it does not support tools", param="tools")
        if sampling.top_logprobs is not None:
            raise InvalidPrompt("the echo expert only returns the prompt: it has no logprobs", param="top_logprobs")
        if conversation.token_ids:
            raise InvalidPrompt("the echo expert only returns the prompt: it has no tokenizer", param="token_ids")
        self._texts[request_id] = conversation.turns[-1]["content"]

    def step(self, lease: int) -> list[EchoEmission]:
        texts, self._texts = self._texts, {}
        return [_emission(request_id, text) for request_id, text in texts.items()]

    def cancel(self, request_id: str) -> None:
        self._texts.pop(request_id, None)

    def close(self) -> None:
        self._texts.clear()


class LeasesWithEcho:
    """Grants leases on `echo` itself; passes everything else on to `leases`."""

    def __init__(self, leases: LeaseSource) -> None:
        self._leases = leases

    async def acquire(self, wish: Acquire) -> Grant:
        return GRANT if wish.expert_id == EXPERT_ID else await self._leases.acquire(wish)

    async def release(self, grant: Grant) -> None:
        if grant is not GRANT:
            await self._leases.release(grant)

    async def prefetch(self, wish: Prefetch) -> None:
        if wish.expert_id != EXPERT_ID:
            await self._leases.prefetch(wish)


def _emission(request_id: str, text: str) -> EchoEmission:
    words = max(1, len(text.split()))
    return EchoEmission(request_id, text, words, words, words, "stop", text)
