"""What a client sees of a prompt, in order: routed, loading, text ..., completed."""

from dataclasses import dataclass

from coe._proto import common_pb2, events_pb2


@dataclass(frozen=True, slots=True)
class Routed:
    """The prompt has a category and an expert."""

    routing: common_pb2.RoutingDecision
    assignment: common_pb2.Assignment


@dataclass(frozen=True, slots=True)
class Loading:
    """The worker waits for the expert's weights, which it found in `tier`."""

    expert_id: str
    tier: str


@dataclass(frozen=True, slots=True)
class Text:
    """More of the answer. A higher `attempt` than before: a worker was lost, the answer starts anew.

    `logprobs` are of the tokens since the last one, if the prompt asks for them; `text` may be empty beside them.
    """

    text: str
    attempt: int
    logprobs: tuple[common_pb2.TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Completed:
    """The terminal event: completion or error. Its text is the truth."""

    result: events_pb2.PromptCompleted


Event = Routed | Loading | Text | Completed
