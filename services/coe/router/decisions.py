"""Metrics of what the router decides."""

from collections.abc import Collection

from coe._proto import common_pb2
from coe.platform.telemetry import names, registry

# Of whatever a client may write: a category that the router knows nothing of.
OTHER = "_OTHER"


def count(decision: common_pb2.RoutingDecision, routing_s: float, known: Collection[str]) -> None:
    """`known`: the router's own categories. A decision of a client's has no confidence and took no time."""
    named = not decision.router_version
    category = OTHER if named and decision.category and decision.category not in known else decision.category
    attributes = {names.COE_CATEGORY: category, names.COE_FALLBACK: decision.fallback_reason}
    registry.counter("coe.router.decisions").add(1, attributes)
    if not named:
        registry.histogram("coe.router.confidence").record(decision.confidence)
        registry.histogram("coe.router.duration").record(routing_s)
