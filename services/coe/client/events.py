"""The events of a prompt as a client sees them, in order: routed, loading, text ..., completed."""

from dataclasses import dataclass

from coe._proto import common_pb2, events_pb2


@dataclass(frozen=True, slots=True)
class Routed:
    """The prompt has a category and an expert."""

    routing: common_pb2.RoutingDecision
    assignment: common_pb2.Assignment


@dataclass(frozen=True, slots=True)
class Loading:
    """The worker is waiting for the expert's weights, which are in `tier`."""

    expert_id: str
    tier: str


@dataclass(frozen=True, slots=True)
class Text:
    """The next piece of the answer. A higher `attempt` than before means that a worker was lost and the answer
    restarts.

    `logprobs` covers the tokens since the last piece, if the prompt requests them; `text` may then be empty.
    """

    text: str
    attempt: int
    logprobs: tuple[common_pb2.TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Completed:
    """The terminal event: completion or error. Its text is authoritative."""

    result: events_pb2.PromptCompleted


Event = Routed | Loading | Text | Completed
