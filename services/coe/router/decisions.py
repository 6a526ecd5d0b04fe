"""Metrics of routing decisions."""

from collections.abc import Collection

from coe._proto import common_pb2
from coe.platform.telemetry import names, registry

# Label for categories named by clients that the router doesn't know: bounds the metric's cardinality.
OTHER = "_OTHER"


def count(decision: common_pb2.RoutingDecision, routing_s: float, known: Collection[str]) -> None:
    """Counts one decision. `known` holds the router's own categories.

    Decisions made by clients have no confidence and took no time, so only the router's own enter the histograms.
    """
    named = not decision.router_version
    category = OTHER if named and decision.category and decision.category not in known else decision.category
    attributes = {names.COE_CATEGORY: category, names.COE_FALLBACK: decision.fallback_reason}
    registry.counter("coe.router.decisions").add(1, attributes)
    if not named:
        registry.histogram("coe.router.confidence").record(decision.confidence)
        registry.histogram("coe.router.duration").record(routing_s)
