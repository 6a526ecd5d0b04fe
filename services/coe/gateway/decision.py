"""Presents the routing decision and assignment: summarized in response headers, in full in the body."""

import string
from typing import Any
from urllib.parse import quote

from google.protobuf.json_format import MessageToDict

from coe._proto import common_pb2

# Characters a header may hold unescaped.
PRINTABLE = string.printable.strip().replace("%", "") + " "


def decision_headers(routing: common_pb2.RoutingDecision, assignment: common_pb2.Assignment) -> dict[str, str]:
    """Response headers for the facts that are set, percent-encoded where a header cannot hold them."""
    confidence = f"{routing.confidence:.3f}" if routing.category else ""
    facts = {
        "expert": assignment.expert_id,
        "reason": assignment.reason,
        "category": routing.category,
        "subcategory": routing.subcategory,
        "confidence": confidence,
        "fallback": routing.fallback_reason,
        "budget": assignment.budget,
        "router-version": routing.router_version,
        "mapping-version": assignment.mapping_version,
    }
    return {f"x-coe-{name}": quote(value, safe=PRINTABLE) for name, value in facts.items() if value}


def explanation(routing: common_pb2.RoutingDecision, assignment: common_pb2.Assignment) -> dict[str, Any]:
    """The `coe` field of a response, for requests that set `explain`."""
    return {
        "routing": MessageToDict(routing, preserving_proto_field_name=True),
        "assignment": MessageToDict(assignment, preserving_proto_field_name=True),
    }
