"""Which expert answers: the mapping's, the nearest hosted one, or the one that was asked for."""

from dataclasses import replace
from typing import Any

import pytest

from coe.mapper import programme
from coe.mapper.bindings import spread
from coe.mapper.mapping import Cell, Mapping, Plan
from coe.mapper.policy import Hosted, mapped, plan_for, requested
from coe.mapper.pool import PoolExpert
from coe.mapper.solve import Limits
from coe.platform.errors import ExpertNotFound, InvalidPrompt

POOL = tuple(PoolExpert(name, size, size) for name, size in (("small", 7.0), ("middle", 27.0), ("large", 70.0)))
CELLS = (
    Cell("general", (0.3, 0.5, 0.6), (9, 9, 9), 0.0, pooled=True),
    Cell("math", (0.4, 0.5, 0.9), (9, 9, 9), 1.0),
)
QUALITY = Plan(Limits(), {"general": "middle", "math": "large"}, 0.9, 70, 97)
MAPPING = Mapping("v1", POOL, CELLS, 8, {"quality": QUALITY})


def test_the_mapped_experts_stand_in_answers() -> None:
    hosted = Hosted({"tiny@replica-1"}, {"large": "tiny@replica-1"})
    choice = mapped(MAPPING, "math", "", plan_for(MAPPING, "", None), hosted)
    assert (choice.expert_id, choice.mapped, choice.reason) == ("tiny@replica-1", "large", "category")
    assert [candidate.mapped for candidate in choice.candidates] == ["large", "middle", "small"]


def test_of_many_experts_the_best_are_candidates_and_the_chosen_one() -> None:
    pool = tuple(PoolExpert(f"e{number}", float(number), 9.0) for number in range(1, 31))
    cell = Cell("general", tuple(1 / expert.active_params_b for expert in pool), (9,) * 30, 1.0)
    plan = Plan(Limits(), {"general": "e20"}, 0.05, 20, 20)
    many = Mapping("v1", pool, (cell,), 8, {"quality": plan})
    choice = mapped(many, "general", "", ("quality", plan), Hosted({"e20"}, {}))
    assert [one.mapped for one in choice.candidates] == [*(f"e{number}" for number in range(1, 9)), "e20"]
    among_the_best = mapped(many, "general", "", ("quality", plan), Hosted({"e3"}, {}))
    assert [one.mapped for one in among_the_best.candidates] == [f"e{number}" for number in range(1, 9)]


def test_equals_are_ranked_by_size() -> None:
    equal = replace(MAPPING, cells=(replace(CELLS[0], quality=(0.5, 0.7, 0.7)), CELLS[1]))
    assert [expert.name for expert, _ in equal.ranked["general"]] == ["middle", "large", "small"]


def test_an_unknown_category_is_general() -> None:
    choice = mapped(MAPPING, "astrology", "", plan_for(MAPPING, "quality", None), Hosted({"middle"}, {}))
    assert (choice.mapped, choice.cell) == ("middle", "general")


@pytest.mark.parametrize(("hosted", "expected"), [({"small", "middle"}, "middle"), ({"small"}, "small")])
def test_when_it_is_not_hosted_the_best_that_is_no_larger_answers(hosted: set[str], expected: str) -> None:
    choice = mapped(MAPPING, "math", "", ("quality", QUALITY), Hosted(hosted, {}))
    assert (choice.expert_id, choice.reason) == (expected, "default")


def test_a_budget_is_not_exceeded_when_something_smaller_is_hosted() -> None:
    choice = mapped(MAPPING, "general", "", ("quality", QUALITY), Hosted({"large", "small"}, {}))
    assert choice.mapped == "small"
    economy = replace(QUALITY, experts={"general": "small", "math": "small"})
    choice = mapped(MAPPING, "general", "", ("economy", economy), Hosted({"large", "middle"}, {}))
    assert choice.mapped == "middle", "the smallest, where nothing is as small"


def test_a_bundle_outside_the_pool_is_better_than_no_answer() -> None:
    choice = mapped(MAPPING, "math", "", ("quality", QUALITY), Hosted({"b", "a"}, {}))
    assert (choice.expert_id, choice.mapped, choice.reason) == ("a", "a", "default")
    choice = mapped(MAPPING, "math", "", ("quality", QUALITY), Hosted({"a"}, {"a": "gone"}))
    assert (choice.expert_id, choice.mapped) == ("a", "a")
    with pytest.raises(ExpertNotFound, match="import"):
        mapped(MAPPING, "math", "", ("quality", QUALITY), Hosted(set(), {}))


def test_a_requested_expert_is_a_bundle_or_a_mapped_name() -> None:
    hosted = Hosted({"tiny"}, {"large": "tiny", "small": "gone"})
    assert requested("tiny", hosted).mapped == "tiny"
    assert requested("large", Hosted({"large", "tiny"}, {"large": "tiny"})).expert_id == "large"
    assert requested("large", hosted).expert_id == "tiny"
    for unknown in ("small", "other"):
        with pytest.raises(ExpertNotFound, match=unknown):
            requested(unknown, hosted)


def test_a_number_is_solved_when_it_is_asked_for() -> None:
    name, plan = plan_for(MAPPING, "", 30.0)
    assert name == "30B"
    assert plan.experts["math"] == "middle"
    assert plan.active_params_b <= 30


@pytest.fixture
def solved(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """The limits of the programmes that were solved."""
    limits: list[float | None] = []
    solve = programme.chosen_experts

    def counted(*args: Any) -> Any:
        limits.append(args[4])
        return solve(*args)

    monkeypatch.setattr(programme, "chosen_experts", counted)
    return limits


def test_figures_that_come_to_the_same_are_solved_once(solved: list[float | None]) -> None:
    own = replace(MAPPING, min_support=3)
    for number in (70.0, 70.01, 71.0, 1e9, 1e308, 1.7e308):
        assert plan_for(own, "", number)[1].experts["math"] == "large"
    for number in (27.31, 27.39):
        assert plan_for(own, "", number)[1].experts["math"] == "middle"
    for number in (6.99, 1.0, 0.5, 0.123456, 5e-324):
        with pytest.raises(InvalidPrompt, match=r"7\.0 B"):
            plan_for(own, "", number)
    assert solved == [70.0, 27.3, 0.0]


def test_a_plan_that_is_known_is_found_without_going_over_the_mapping(monkeypatch: pytest.MonkeyPatch) -> None:
    own = replace(MAPPING, min_support=4)
    first = plan_for(own, "", 30.0)
    hashed: list[Cell] = []
    monkeypatch.setattr(Cell, "__hash__", lambda cell: hashed.append(cell) or 0)
    assert plan_for(own, "", 30.0) == first
    assert hashed == []


def test_where_hosting_is_limited_a_number_chooses_of_what_is_hosted() -> None:
    def limited(bound: float | None, *plans: dict[str, str]) -> Mapping:
        budgets = {str(number): Plan(Limits(None, bound), plan, 0.9, 70, 77) for number, plan in enumerate(plans)}
        return replace(MAPPING, budgets=budgets)

    two = {"general": "small", "math": "large"}
    assert plan_for(limited(None, two), "", 30.0)[1].experts["math"] == "middle"
    assert set(plan_for(limited(80.0, two), "", 30.0)[1].experts.values()) == {"small"}
    assert plan_for(limited(80.0, two), "", 70.0)[1].experts["math"] == "large"
    with pytest.raises(InvalidPrompt):
        plan_for(limited(80.0, {"general": "large", "math": "large"}), "", 30.0)


def test_small_figures_are_told_apart(solved: list[float | None]) -> None:
    pool = tuple(PoolExpert(name, size, size) for name, size in (("small", 0.135), ("middle", 0.27), ("large", 0.6)))
    own = replace(MAPPING, pool=pool)
    wanted = {0.135: "small", 0.2699: "small", 0.27: "middle", 0.2701: "middle", 3.0: "large"}
    assert {number: plan_for(own, "", number)[1].experts["math"] for number in wanted} == wanted
    with pytest.raises(InvalidPrompt):
        plan_for(own, "", 0.1349)
    assert solved == [0.135, 0.269, 0.27, 0.6, 0.0]


def test_a_figure_that_reaches_an_expert_is_not_rounded_below_it(solved: list[float | None]) -> None:
    pool = tuple(PoolExpert(name, size, size) for name, size in (("small", 3.21), ("middle", 8.03), ("large", 70.55)))
    own = replace(MAPPING, pool=pool)
    wanted = {3.21: "small", 8.0: "small", 8.03: "middle", 8.05: "middle", 70.5: "middle", 70.55: "large", 1e9: "large"}
    assert {number: plan_for(own, "", number)[1].experts["math"] for number in wanted} == wanted
    assert solved == [3.21, 8.0, 8.03, 70.5, 70.55]


@pytest.mark.parametrize("number", [0.0, -1.0, float("nan"), float("inf"), 2.0, 0.3])
def test_a_budget_that_nothing_fits_is_refused(number: float) -> None:
    with pytest.raises(InvalidPrompt):
        plan_for(MAPPING, "", number)


def test_an_unknown_budget_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidPrompt, match="quality"):
        plan_for(MAPPING, "lavish", None)


def test_bundles_are_spread_over_the_mapped_experts() -> None:
    assert spread(["a", "b", "c"], ["x", "y"]) == {"a": "x", "b": "y", "c": "x"}
    assert spread(["a", "b"], ["a", "x"]) == {"a": "a", "b": "x"}
    assert spread(["a"], []) == {}
