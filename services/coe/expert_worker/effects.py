"""What the loop asks the outside world to do (effects) and what it gets back. Plain values: the loop does no I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from coe.expert_worker.prompt import Prompt
from coe.experts.logprobs import TokenLogprob
from coe.experts.tool_calls import ToolCall
from coe.platform.errors import CoEError
from coe.scheduling import NextUse


class Emission(Protocol):
    """What one step produced for one sequence (coe.experts.Emission)."""

    @property
    def request_id(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def tokens(self) -> int: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def completion_tokens(self) -> int: ...
    @property
    def finish_reason(self) -> str | None: ...
    @property
    def final_text(self) -> str: ...
    @property
    def tool_calls(self) -> Sequence[ToolCall]: ...
    @property
    def logprobs(self) -> Sequence[TokenLogprob]: ...
    @property
    def prompt_logprobs(self) -> Sequence[TokenLogprob]: ...
    @property
    def guessed(self) -> int: ...
    @property
    def right(self) -> int: ...
    @property
    def cached_tokens(self) -> int: ...
    @property
    def error(self) -> CoEError | None: ...


@dataclass(frozen=True, slots=True)
class Grant:
    """A lease on an expert's bytes. `handle` is what the graph reads them by; `found_in` is "hbm", "ddr" or "disk".

    `bundle`: the bundle that the bytes belong to (Bundle.identity); empty if unknown.
    """

    lease_id: int
    handle: int
    epoch: int
    found_in: str
    bytes_to_copy: int = 0
    modelled_copy_s: float = 0.0
    bundle: str = ""


class Residency(Enum):
    """Whether an expert's weights are in HBM."""

    ABSENT = "absent"
    LOADING = "loading"
    RESIDENT = "resident"
    # Evicted as soon as its leases have ended: a request is waiting for its room.
    LEAVING = "leaving"


class LeaseSource(Protocol):
    """Where leases come from (TierClient)."""

    async def acquire(self, wish: "Acquire") -> Grant: ...

    async def release(self, grant: Grant) -> None: ...

    async def prefetch(self, wish: "Prefetch") -> None: ...


# Effects.


@dataclass(frozen=True, slots=True)
class Acquire:
    """Ask for a lease. Answered by `on_granted` or, after the lease source's own retries, `on_refused`.

    `forecast`: when experts will be needed next, so that the right one is evicted. `until_resident`: grant only once
    the copy has ended. Used after a failed step, so that a failed load is reported instead of failing the next step.
    """

    expert_id: str
    forecast: Sequence[NextUse] = ()
    until_resident: bool = False


@dataclass(frozen=True, slots=True)
class Abandon:
    """The pending lease is no longer wanted. This gets no answer; a grant already on its way is released."""

    expert_id: str


@dataclass(frozen=True, slots=True)
class Release:
    expert_id: str
    grant: Grant


@dataclass(frozen=True, slots=True)
class Prefetch:
    expert_id: str
    forecast: Sequence[NextUse] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the expert's runner, after `join` have joined and `leave` have left. Answered by `on_step`.

    `closed`: no prompt is waiting to take the place of a sequence that ends.
    """

    expert_id: str
    grant: Grant
    join: Sequence[Prompt] = ()
    leave: Sequence[str] = ()
    closed: bool = False

    def following(self, done: "StepDone") -> "Step | None":
        """The next step, if nothing has to be decided before it."""
        ended = any(emission.finish_reason is not None for emission in done.emissions)
        goes_on = (self.closed and done.live > 0) if ended else bool(done.emissions)
        if done.error or done.refused or not goes_on:
            return None
        return Step(self.expert_id, self.grant, closed=self.closed)


@dataclass(frozen=True, slots=True)
class Discard:
    """Discard the expert's runner: it failed, or its lease was refused or abandoned."""

    expert_id: str


@dataclass(frozen=True, slots=True)
class Loading:
    """The prompt had to wait for weights that were found in `tier`."""

    prompt: Prompt
    sequence: int
    tier: str


@dataclass(frozen=True, slots=True)
class Text:
    prompt: Prompt
    sequence: int
    text: str
    tokens: int
    logprobs: Sequence[TokenLogprob] = ()


@dataclass(frozen=True, slots=True)
class Spent:
    """Where one prompt's seconds went, and what loading its weights cost. Zero for stages it did not reach."""

    queue_s: float = 0.0
    load_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    time_to_first_token_s: float = 0.0
    total_s: float = 0.0
    found_in: str = ""
    bytes_copied: int = 0
    copy_s: float = 0.0
    modelled_copy_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    tool_calls: Sequence[ToolCall] = ()
    logprobs: Sequence[TokenLogprob] = ()
    # Tokens guessed speculatively, and how many of the guesses were right.
    guessed: int = 0
    right: int = 0
    # Prompt tokens whose keys and values were reused instead of computed.
    cached_tokens: int = 0
    # Log probabilities of the prompt's tokens, if requested.
    prompt_logprobs: Sequence[TokenLogprob] = ()


@dataclass(frozen=True, slots=True)
class Finish:
    """The prompt's one terminal event."""

    prompt: Prompt
    result: Answer | CoEError
    spent: Spent


Effect = Acquire | Abandon | Release | Prefetch | Step | Discard | Loading | Text | Finish


@dataclass(frozen=True, slots=True)
class StepDone:
    """How a step went. `refused`: prompts that could not join. `error`: the step failed for all sequences. `live`: the
    number of sequences that have not ended. `went_on`: nothing had to be decided, so the next step has already begun.
    """

    expert_id: str
    emissions: Sequence[Emission] = ()
    refused: Sequence[tuple[str, CoEError]] = ()
    error: CoEError | None = None
    live: int = 0
    went_on: bool = False
