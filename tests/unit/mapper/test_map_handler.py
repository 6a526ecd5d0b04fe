"""Records of coe.routed.v1 to outcomes."""

import threading
from pathlib import Path
from typing import Any, cast

import pytest
import structlog

from coe._proto.common_pb2 import Budget, RoutingDecision
from coe._proto.events_pb2 import PromptAssigned, PromptCompleted, PromptRouted, PromptSubmitted
from coe._proto.mapper_pb2 import ResolveRequest
from coe.mapper import policy
from coe.mapper.handler import MapHandler, resolve
from coe.mapper.mapping import Cell, Mapping, Plan
from coe.mapper.policy import Hosted
from coe.mapper.pool import PoolExpert
from coe.mapper.refiner import Refiner
from coe.mapper.replicas import Choice, Cluster, Replicas, Rule, partition_of
from coe.mapper.servicer import MapperServicer
from coe.mapper.settings import MapperSettings
from coe.mapper.solve import Limits
from coe.mapper.state import Solved, State
from coe.platform import topics
from coe.platform.bus.api import Outcome, Record
from coe.platform.errors import InvalidPrompt

NOW = 1_000_000
POOL = (PoolExpert("small", 7.0, 7.0), PoolExpert("large", 70.0, 70.0))
CELLS = (Cell("general", (0.3, 0.6), (9, 9), 0.0, pooled=True), Cell("math", (0.4, 0.9), (9, 9), 1.0))


def mapping(version: str, expert: str) -> Mapping:
    plan = Plan(Limits(), {"general": expert, "math": expert}, 0.5, 7, 7)
    return Mapping(version, POOL, CELLS, 8, {"quality": plan})


HOSTED = Hosted({"tiny", "tiny@replica-1"}, {"small": "tiny", "large": "tiny@replica-1"})
OLD, NEW = mapping("old", "small"), mapping("new", "large")


def handler(state: State | None = None, queued: int = 0, canary_share: float = 0.0) -> MapHandler:
    replicas = Replicas(Rule())
    replicas.saw(Cluster(8, queued={"w": {"tiny": queued}}))
    settings = MapperSettings(canary_share=canary_share, candidate=Path("new.yaml"))
    state = state or State(Solved(OLD), None, HOSTED)

    def choose(expert: str, affinity: str) -> Choice:
        return replicas.choose(expert, affinity, 0.0)

    return MapHandler(lambda: state, choose, settings, now_ms=lambda: NOW)


def record(prompt: PromptSubmitted, category: str = "math", headers: tuple[tuple[str, bytes], ...] = ()) -> Record:
    routed = PromptRouted(prompt=prompt, routing=RoutingDecision(category=category), routing_s=0.5)
    return Record(topics.ROUTED, 0, 0, prompt.request_id.encode(), routed.SerializeToString(), headers, NOW)


def assigned(outcome: Outcome) -> PromptAssigned:
    (outgoing,) = outcome.publish
    assert outgoing.topic == topics.ASSIGNMENTS
    assert isinstance(outgoing.message, PromptAssigned)
    assignment = outgoing.message.assignment
    assert outgoing.key == f"{assignment.expert_id}#{assignment.replica}"
    assert outgoing.partition == partition_of(assignment.expert_id, assignment.replica, 8)
    return outgoing.message


def error_code(outcome: Outcome) -> str:
    (outgoing,) = outcome.publish
    assert outgoing.topic == topics.COMPLETIONS
    assert isinstance(outgoing.message, PromptCompleted)
    return outgoing.message.error.code


async def test_a_routed_prompt_is_assigned_with_all_that_is_known() -> None:
    (outcome,) = await handler()([record(PromptSubmitted(request_id="a", prompt="1+1"))])
    message = assigned(outcome)
    assert message.assignment.expert_id == "tiny"
    assert message.assignment.mapped_expert == "small"
    assert message.assignment.mapping_version == "old"
    assert message.assignment.budget == "quality"
    assert [candidate.expert_id for candidate in message.assignment.candidates] == ["large", "small"]
    assert message.routing_s == 0.5
    assert message.prompt.prompt == "1+1"


async def test_each_bad_prompt_ends_alone() -> None:
    records = [
        record(PromptSubmitted(request_id="a", expert_id="nobody")),
        record(PromptSubmitted(request_id="b", deadline_ms=NOW - 1)),
        record(PromptSubmitted(request_id="c"), headers=(("coe-deadline-ms", str(NOW - 1).encode()),)),
        record(PromptSubmitted(request_id="d", budget=Budget(name="lavish"))),
        record(PromptSubmitted(request_id="e", budget=Budget(active_params_b=1))),
        Record(topics.ROUTED, 0, 0, b"f", b"\xff", (), NOW),
        record(PromptSubmitted(request_id="g")),
    ]
    outcomes = await handler()(records)
    assert [error_code(outcome) for outcome in outcomes[:6]] == [
        "expert_not_found",
        "deadline_exceeded",
        "deadline_exceeded",
        "invalid_prompt",
        "invalid_prompt",
        "undecodable_message",
    ]
    assert outcomes[5].dead_letter is not None
    assert assigned(outcomes[6]).prompt.request_id == "g"


async def test_a_requested_expert_passes_the_mapping_by() -> None:
    (outcome,) = await handler()([record(PromptSubmitted(request_id="a", expert_id="tiny@replica-1"), category="")])
    assert assigned(outcome).assignment.expert_id == "tiny@replica-1"
    assert assigned(outcome).assignment.reason == "requested"


async def test_a_numeric_budget_is_kept() -> None:
    (outcome,) = await handler(State(Solved(NEW), None, HOSTED))(
        [record(PromptSubmitted(request_id="a", budget=Budget(active_params_b=10)))]
    )
    assert assigned(outcome).assignment.mapped_expert == "small"
    assert assigned(outcome).assignment.budget == "10B"


async def test_a_long_queue_spreads_requests_and_keeps_conversations_together() -> None:
    requests = [record(PromptSubmitted(request_id=f"r{number}")) for number in range(40)]
    same = [record(PromptSubmitted(request_id=f"s{number}", conversation_id="c")) for number in range(10)]
    outcomes = await handler(queued=100)([*requests, *same])
    assert {assigned(outcome).assignment.replica for outcome in outcomes[:40]} == {0, 1, 2, 3}
    assert len({assigned(outcome).assignment.replica for outcome in outcomes[40:]}) == 1


@pytest.mark.parametrize(("share", "version"), [(0.0, "old"), (1.0, "new")])
async def test_a_candidate_is_logged_and_followed_for_its_share(share: float, version: str) -> None:
    state = State(Solved(OLD), Solved(NEW), HOSTED)
    with structlog.testing.capture_logs() as entries:
        (outcome,) = await handler(state, canary_share=share)([record(PromptSubmitted(request_id="a"))])
    assert assigned(outcome).assignment.mapping_version == version
    (entry,) = [entry for entry in entries if entry["event"] == "mapping on trial"]
    assert (entry["expert"], entry["candidate_expert"]) == ("small", "large")


async def test_a_candidate_that_agrees_is_not_worth_a_line() -> None:
    state = State(Solved(OLD), Solved(mapping("new", "small")), HOSTED)
    with structlog.testing.capture_logs() as entries:
        (outcome,) = await handler(state, canary_share=1.0)([record(PromptSubmitted(request_id="a"))])
    assert assigned(outcome).assignment.mapping_version == "new"
    assert entries == []


def test_the_chosen_expert_is_among_the_candidates_of_a_large_pool() -> None:
    pool = tuple(PoolExpert(str(number), number + 1.0, number + 1.0) for number in range(12))
    cells = (Cell("general", tuple(number / 12 for number in range(12)), (9,) * 12, 1.0),)
    plan = Plan(Limits(), {"general": "0"}, 0.0, 1, 1)
    large = Mapping("v", pool, cells, 8, {"quality": plan})
    found = resolve(large, Hosted({"0"}, {}), "", "general", "", Budget())
    assert [candidate.expert_id for candidate in found.candidates] == [*map(str, range(11, 3, -1)), "0"]


class Finder:
    """Stands in for a refiner that puts everything into one part."""

    def __init__(self, part: str) -> None:
        self._part = part

    def has(self, category: str) -> bool:
        return category == "math"

    def refine(self, category: str, texts: list[str]) -> list[str]:
        return [self._part] * len(texts)


@pytest.mark.parametrize(("share", "part", "expert"), [(0.0, "math/1", "small"), (1.0, "math/2", "large")])
async def test_a_candidate_goes_by_parts_of_its_own(share: float, part: str, expert: str) -> None:
    def parted(version: str, refined: str, mapped: str) -> Solved:
        cells = (*CELLS, Cell(refined, (0.4, 0.9), (9, 9), 1.0))
        experts = {"general": "small", "math": "small", refined: mapped}
        found = Mapping(version, POOL, cells, 8, {"quality": Plan(Limits(), experts, 0.5, 7, 7)})
        return Solved(found, cast("Refiner", Finder(refined)))

    state = State(parted("old", "math/1", "small"), parted("new", "math/2", "large"), HOSTED)
    (outcome,) = await handler(state, canary_share=share)([record(PromptSubmitted(request_id="a", prompt="1+1"))])
    message = assigned(outcome)
    assert (message.routing.subcategory, message.assignment.mapped_expert) == (part, expert)


async def test_a_tenant_s_budget_is_used_where_the_prompt_names_none() -> None:
    state = State(Solved(NEW), None, HOSTED, {"acme": Budget(active_params_b=10)})
    prompts = [
        PromptSubmitted(request_id="a", tenant="acme"),
        PromptSubmitted(request_id="b", tenant="acme", budget=Budget(name="quality")),
        PromptSubmitted(request_id="c", tenant="other"),
    ]
    outcomes = await handler(state)([record(prompt) for prompt in prompts])
    assert [assigned(outcome).assignment.budget for outcome in outcomes] == ["10B", "quality", "quality"]


async def test_a_budget_is_solved_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def solved(*args: Any) -> Any:
        threads.append(threading.current_thread())
        return plan_for(*args)

    plan_for = policy.plan_for
    monkeypatch.setattr(policy, "plan_for", solved)
    prompt = PromptSubmitted(request_id="a", prompt="1+1", budget=Budget(active_params_b=7.25))
    (outcome,) = await handler()([record(prompt)])
    assert assigned(outcome).assignment.budget == "7.25B"
    servicer = MapperServicer(lambda: State(Solved(OLD), None, HOSTED))
    asked = ResolveRequest(category="math", budget=Budget(active_params_b=7.25))
    answer = await servicer.Resolve(asked, cast("Any", None))
    assert answer.assignment.expert_id == "tiny"
    assert len(threads) == 2
    assert threading.main_thread() not in threads


@pytest.mark.parametrize("name", ["expert_id", "category", "subcategory", "budget"])
async def test_names_of_a_call_have_an_end(name: str) -> None:
    servicer = MapperServicer(lambda: State(Solved(OLD), None, HOSTED))
    long = "x" * 257
    asked = ResolveRequest(budget=Budget(name=long)) if name == "budget" else ResolveRequest(**{name: long})
    with pytest.raises(InvalidPrompt, match=name):
        await servicer.Resolve(asked, cast("Any", None))
