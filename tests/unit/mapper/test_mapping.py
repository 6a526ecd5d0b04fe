"""From outcomes to a mapping and its file."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from coe.mapper.mapping import Mapping
from coe.mapper.mapping_file import dump_mapping, load_mapping, parse_mapping
from coe.mapper.outcomes import Outcomes
from coe.mapper.pool import PoolExpert
from coe.mapper.solve import Limits
from coe.mapper.train import ROUTER_CATEGORIES, build_mapping
from coe.platform.errors import ArtifactError

POOL = [PoolExpert("small", 7.0, 7.0), PoolExpert("large", 70.0, 70.0)]


def outcomes(categories: list[str], scores: list[list[float]]) -> Outcomes:
    names = tuple(str(index) for index in range(len(categories)))
    return Outcomes(("small", "large"), ("d",) * len(names), names, names, tuple(categories), np.array(scores))


@pytest.fixture
def mapping() -> Mapping:
    return build_mapping(
        outcomes(["math/easy"] * 40 + ["math/hard"] * 40 + ["coding"] * 20, [[0.9, 1.0]] * 40 + [[0.1, 0.9]] * 60),
        POOL,
        balanced_b=35,
    )


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda one: {"pool": (*one.pool, one.pool[0])}, "twice"),
        (lambda one: {"cells": (*one.cells, one.cells[0])}, "twice"),
        (lambda one: {"cells": tuple(replace(cell, share=0.0) for cell in one.cells)}, "no category with outcomes"),
        (lambda one: {"cells": tuple(cell for cell in one.cells if cell.name != "general")}, "no category 'general'"),
        (lambda one: {"cells": one.cells[1:]}, "must give each category an expert of the pool"),
        (lambda one: {"pool": one.pool[:1]}, "must give each category an expert of the pool"),
    ],
)
def test_a_mapping_that_contradicts_itself_is_refused(
    mapping: Mapping, change: Callable[[Mapping], dict[str, Any]], match: str
) -> None:
    with pytest.raises(ArtifactError, match=match):
        replace(mapping, **change(mapping))


def test_every_router_category_has_an_expert_under_every_budget(mapping: Mapping) -> None:
    for plan in mapping.budgets.values():
        assert set(ROUTER_CATEGORIES) <= set(plan.experts)
    assert mapping.cell("law").pooled
    assert not mapping.cell("math").pooled


def test_a_part_may_go_elsewhere_than_its_category(mapping: Mapping) -> None:
    experts = mapping.budgets["balanced"].experts
    assert experts["math/hard"] == "large"
    assert experts["math/easy"] == "small"


def test_budgets_hold_in_expectation_and_for_single_choices(mapping: Mapping) -> None:
    assert mapping.budgets["balanced"].active_params_b <= 35
    assert mapping.budgets["balanced"].experts["law"] == "small"
    assert mapping.budgets["quality"].experts["law"] == "large"


def test_a_few_lucky_outcomes_do_not_make_an_expert_of_everything() -> None:
    """Categories without outcomes, and so all uncertain prompts, go to one that enough outcomes speak for."""
    lucky = [[1.0, 0.6]] * 3 + [[np.nan, 0.6]] * 60
    mapping = build_mapping(outcomes(["math"] * 63, lucky), POOL, balanced_b=80, economy_b=70)
    assert {plan.experts["law"] for plan in mapping.budgets.values()} == {"large"}


def test_hosted_parameters_are_bounded_over_all_cells(mapping: Mapping) -> None:
    plan = mapping.plan(Limits(hosted_params_b=60))
    assert set(plan.experts.values()) == {"small"}
    assert plan.hosted_params_b == 7.0


def test_a_limit_that_has_no_name_keeps_to_what_may_be_hosted() -> None:
    mapping = build_mapping(
        outcomes(["math"] * 50 + ["coding"] * 50, [[0.1, 0.9]] * 50 + [[0.8, 0.9]] * 50),
        POOL,
        balanced_b=35,
        hosted_b=75,
    )
    assert {name for plan in mapping.budgets.values() for name in plan.experts.values()} == {"small", "large"}
    assert mapping.plan(Limits(69)).hosted_params_b == 77
    assert mapping.plan_within(69).hosted_params_b == 7
    assert mapping.plan_within(70).hosted_params_b == 70


def test_the_finest_known_cell_is_used(mapping: Mapping) -> None:
    assert mapping.cell("math", "hard").name == "math/hard"
    assert mapping.cell("math", "math/hard").name == "math/hard"
    assert mapping.cell("math", "unheard-of").name == "math"
    assert mapping.cell("unheard-of").name == "general"


def test_a_file_says_the_same_as_the_mapping(mapping: Mapping) -> None:
    text = dump_mapping(mapping, {"outcomes": "o.jsonl"})
    again = parse_mapping(text)
    assert again.cells == mapping.cells
    assert {name: plan.experts for name, plan in again.budgets.items()} == {
        name: plan.experts for name, plan in mapping.budgets.items()
    }
    assert parse_mapping(dump_mapping(again, {"outcomes": "o.jsonl"})).version == again.version


def test_an_edit_by_hand_gets_a_version_of_its_own(mapping: Mapping) -> None:
    text = dump_mapping(mapping, {"outcomes": "o.jsonl"})
    version = parse_mapping(text).version
    edited = text.replace("coding: large", "coding: small")
    with pytest.raises(ArtifactError, match="version"):
        parse_mapping(edited)
    unversioned = edited.replace(f"version: {version}\n", "")
    assert parse_mapping(unversioned).version != version


def test_files_that_are_no_mapping_are_refused(mapping: Mapping, tmp_path: Path) -> None:
    good = yaml.safe_load(dump_mapping(mapping, {}))
    del good["version"]
    other_format = {**good, "format": 99}
    no_pool = {key: value for key, value in good.items() if key != "pool"}
    stranger = {**good, "budgets": {"quality": {**good["budgets"]["quality"], "experts": {"coding": "who"}}}}
    unlimited = {**good, "budgets": {"quality": {**good["budgets"]["quality"], "hosted_params_b": "none"}}}
    for data in (other_format, no_pool, stranger, unlimited, [], "text"):
        path = tmp_path / "mapping.yaml"
        path.write_text(yaml.safe_dump(data))
        with pytest.raises(ArtifactError, match=r"mapping\.yaml"):
            load_mapping(path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\x00\x01")
    with pytest.raises(ArtifactError):
        load_mapping(tmp_path / "binary.yaml")
    with pytest.raises(ArtifactError):
        load_mapping(tmp_path / "none.yaml")


def test_the_packaged_mapping_is_sound() -> None:
    mapping = load_mapping(Path(__file__).parents[3] / "services/coe/mapper/artifacts/mapping.yaml")
    assert set(mapping.budgets) == {"quality", "balanced", "economy"}
    assert mapping.budgets["balanced"].active_params_b <= 31
    assert all(set(ROUTER_CATEGORIES) <= set(plan.experts) for plan in mapping.budgets.values())
