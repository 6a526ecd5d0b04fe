"""Clients of the system: over Kafka (what producers do) and over gRPC (the gateway).

What follows is what users' programs may import; it stays within a major version.
"""

from coe._proto.common_pb2 import Assignment, Budget, ChatMessage, RoutingDecision, SamplingParams
from coe._proto.events_pb2 import PromptCancelled, PromptCompleted, PromptSubmitted, TokenChunk
from coe.client.connection import connect
from coe.client.events import Completed, Event, Loading, Routed, Text
from coe.client.prompts import PromptClient
from coe.platform.errors import CoEError

__all__ = [
    "Assignment",
    "Budget",
    "ChatMessage",
    "CoEError",
    "Completed",
    "Event",
    "Loading",
    "PromptCancelled",
    "PromptClient",
    "PromptCompleted",
    "PromptSubmitted",
    "Routed",
    "RoutingDecision",
    "SamplingParams",
    "Text",
    "TokenChunk",
    "connect",
]
