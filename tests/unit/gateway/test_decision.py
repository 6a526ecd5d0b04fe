"""Why this expert answers."""

from coe._proto import common_pb2
from coe.gateway.decision import decision_headers, explanation


def test_headers_and_explanation_say_why() -> None:
    routing = common_pb2.RoutingDecision(
        category="園芸 %",
        subcategory="math/grade-school/1",
        confidence=0.5,
        fallback_reason="low_confidence",
        router_version="r1",
        distribution=[common_pb2.CategoryScore(category="math", probability=0.5)],
    )
    assignment = common_pb2.Assignment(
        expert_id="expert@replica-1",
        reason="category",
        budget="12B",
        mapping_version="m1",
        candidates=[common_pb2.ExpertScore(expert_id="expert", expected_quality=0.5, active_params_b=7)],
    )
    assert decision_headers(routing, assignment) == {
        "x-coe-expert": "expert@replica-1",
        "x-coe-reason": "category",
        "x-coe-category": "%E5%9C%92%E8%8A%B8 %25",
        "x-coe-subcategory": "math/grade-school/1",
        "x-coe-confidence": "0.500",
        "x-coe-fallback": "low_confidence",
        "x-coe-budget": "12B",
        "x-coe-router-version": "r1",
        "x-coe-mapping-version": "m1",
    }
    whole = explanation(routing, assignment)
    assert whole["routing"]["distribution"] == [{"category": "math", "probability": 0.5}]
    assert whole["assignment"]["candidates"][0]["expected_quality"] == 0.5
