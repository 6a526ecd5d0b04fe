"""A whole evaluation of a small made-up world: its JSON, its report, and what must hold of any."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from coe.evaluation.evaluate import Evaluation, Part, evaluate
from coe.evaluation.facts import findings
from coe.evaluation.metrics import Interval, paired_bootstrap
from coe.evaluation.pairs import judge_pair
from coe.evaluation.report import write_report
from coe.evaluation.summary import as_json, closing_lines, systems_table
from coe.mapper.outcomes import Outcomes
from coe.mapper.pool import PoolExpert

POOL = [PoolExpert("org/small", 7.0, 7.0), PoolExpert("org/middle", 27.2, 27.2), PoolExpert("org/large", 70.0, 70.0)]


def world(seed: int, prompts: int) -> Part:
    """Two categories; in one the middle expert is as good as the large one. A word tells what the small one can do.

    Some outcomes are missing.
    """
    random = np.random.default_rng(seed)
    coding, hard = random.random((2, prompts)) < 0.5
    embeddings = random.normal(size=(prompts, 16)) * 0.2
    embeddings[:, 0] = np.where(coding, 1.0, -1.0)
    chance = np.where(coding[:, None], [[0.3, 0.8, 0.8]], [[0.4, 0.5, 0.9]])
    chance[:, 0] += np.where(hard, -0.25, 0.25)
    scores = (random.random((prompts, 3)) < chance).astype(float)
    scores[random.random(prompts) < 0.05, 0] = np.nan
    names = tuple(f"{'hard' if h else 'easy'} {random.integers(10**9)}" for h in hard)
    categories = tuple("coding" if value else "math" for value in coding)
    outcomes = Outcomes(tuple(e.name for e in POOL), ("d",) * prompts, names, names, categories, scores)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return Part(outcomes, unit.astype(np.float32))


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return evaluate("made-up", world(0, 400), world(1, 300), POOL)


def test_the_json_has_the_documented_keys_and_can_be_written(evaluation: Evaluation) -> None:
    data = json.loads(json.dumps(as_json(evaluation, 0), allow_nan=False))
    assert list(data) == ["dataset", "systems", "frontier", "area", "apgr"]
    assert {tuple(system) for system in data["systems"]} == {("name", "kind", "score", "ci", "avg_active_params_b")}
    assert {system["kind"] for system in data["systems"]} == {"single", "random", "category", "knn", "oracle", "coe"}
    assert {tuple(point) for point in data["frontier"]} == {("budget_b", "score", "ci", "avg_active_params_b")}
    assert [point["budget_b"] for point in data["frontier"]] == [9.0, 15.0, 31.0, 54.0, None]
    assert all(low <= entry["score"] <= high for entry in data["systems"] for low, high in [entry["ci"]])


def test_budgets_hold_on_the_test_part_as_far_as_chance_allows(evaluation: Evaluation) -> None:
    for point in evaluation.frontier:
        if point.budget_b is not None:
            error = float(point.active.std()) / len(point.active) ** 0.5
            assert point.active_params_b <= point.budget_b + 2 * error


def test_the_composition_learns_what_there_is_to_learn(evaluation: Evaluation) -> None:
    scores = {point.budget_b: point.score for point in evaluation.frontier}
    # Coding at 27 B scores 0.8, maths at 70 B 0.9: 0.85 for 48.5 B, more than any single expert.
    assert scores[54.0] > 0.80
    assert scores[31.0] > scores[9.0]
    assert evaluation.area["coe"].mean > evaluation.area["random mixing"].mean
    assert evaluation.area["coe"].low < evaluation.area["coe"].mean < evaluation.area["coe"].high


def test_nothing_beats_the_oracle_and_all_is_repeatable(evaluation: Evaluation) -> None:
    (oracle,) = [system for system in evaluation.systems if system.kind == "oracle"]
    assert all(system.score <= oracle.score for system in evaluation.systems)
    again = evaluate("made-up", world(0, 400), world(1, 300), POOL)
    assert as_json(again, 0) == as_json(evaluation, 0)


def test_the_report_stands_alone(evaluation: Evaluation, tmp_path: Path) -> None:
    page = write_report(evaluation, tmp_path / "report", 0).read_text()
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert "org/large" in page
    # A table that is wider than the page is scrolled with keys too.
    assert page.count('class="scroll" tabindex="0" role="region" aria-label=') == page.count("<table>")
    for name in ("frontier.png", "frontier.svg", "shares.png", "shares.svg"):
        assert (tmp_path / "report" / name).stat().st_size > 1000


def test_findings_name_the_family_with_the_largest_area(evaluation: Evaluation) -> None:
    most = Interval(0.99, 0.98, 1.0)
    changed = replace(evaluation, area=evaluation.area | {"knn": most})
    assert findings(changed, 0)[-1].endswith("the largest is that of nearest neighbours.")


def test_people_get_a_table(evaluation: Evaluation) -> None:
    assert systems_table(evaluation, 0).row_count == len(evaluation.systems)
    assert len(closing_lines(evaluation)) == 4


def test_no_single_expert_is_better_at_its_own_size(evaluation: Evaluation) -> None:
    # Sizes are not whole numbers: a mean of them over prompts is not quite the size itself.
    single = {expert.active_params_b: evaluation.systems[row].scores for row, expert in enumerate(POOL)}
    assert [plan.budget_b for plan in evaluation.beside] == [7.0, 27.2, 70.0]
    for plan in evaluation.beside:
        assert plan.budget_b is not None
        assert paired_bootstrap(plan.scores, single[plan.budget_b]).high >= 0


def test_a_strong_expert_that_turns_out_no_better_leaves_the_pair_undefined(evaluation: Evaluation) -> None:
    test = world(1, 300).outcomes
    same = replace(test, scores=np.full_like(test.scores, 0.5))
    changed = replace(evaluation, pair=judge_pair(np.zeros((300, 3)), world(0, 400).outcomes, same, POOL))
    assert json.loads(json.dumps(as_json(changed, 0), allow_nan=False))["apgr"] is None
    assert "APGR undefined" in closing_lines(changed)[1]
