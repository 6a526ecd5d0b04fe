"""Clients of the system: over Kafka (what producers do) and over gRPC (the gateway).

What follows is what users' programs may import; it stays within a major version.
"""

from coe._proto.common_pb2 import Assignment, Budget, ChatMessage, RoutingDecision, SamplingParams, TokenLogprob
from coe._proto.events_pb2 import PromptCancelled, PromptCompleted, PromptSubmitted, TokenChunk
from coe.client.connection import connect
from coe.client.events import Completed, Event, Loading, Routed, Text
from coe.client.prompts import PromptClient
from coe.platform.errors import (
    ArtifactError,
    CapacityExceeded,
    CoEError,
    DeadlineExceeded,
    PromptTooLarge,
    RequestIdReused,
    Unavailable,
)

__all__ = [
    "ArtifactError",
    "Assignment",
    "Budget",
    "CapacityExceeded",
    "ChatMessage",
    "CoEError",
    "Completed",
    "DeadlineExceeded",
    "Event",
    "Loading",
    "PromptCancelled",
    "PromptClient",
    "PromptCompleted",
    "PromptSubmitted",
    "PromptTooLarge",
    "RequestIdReused",
    "Routed",
    "RoutingDecision",
    "SamplingParams",
    "Text",
    "TokenChunk",
    "TokenLogprob",
    "Unavailable",
    "connect",
]
