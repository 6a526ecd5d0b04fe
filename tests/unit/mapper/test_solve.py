"""The programme against brute force, and what must hold of any solution."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coe.mapper.solve import Limits, Solution, solve
from coe.platform.errors import InvalidPrompt

PARAMS = [1.0, 2.0, 3.5, 7.0]


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    cells, experts = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    active = random.choice(PARAMS, experts)
    return (
        random.random((cells, experts)).round(3),
        random.dirichlet(np.ones(cells)),
        active,
        active * random.choice([1.0, 3.0], experts),
    )


def objective(problem: tuple[np.ndarray, ...], chosen: tuple[int, ...], penalty: float) -> float:
    quality, share, active, _ = problem
    return float(
        sum(w * (quality[c, e] - penalty * active[e]) for c, (w, e) in enumerate(zip(share, chosen, strict=True)))
    )


def brute_force(problem: tuple[np.ndarray, ...], limits: Limits, allowed: np.ndarray) -> float | None:
    quality, share, active, total = problem
    best = None
    for chosen in product(range(quality.shape[1]), repeat=quality.shape[0]):
        average = sum(w * active[e] for w, e in zip(share, chosen, strict=True))
        hosted = sum(total[e] for e in set(chosen))
        if limits.active_params_b is not None and average > limits.active_params_b + 1e-9:
            continue
        if limits.hosted_params_b is not None and hosted > limits.hosted_params_b + 1e-9:
            continue
        if not all(allowed[c, e] for c, e in enumerate(chosen)):
            continue
        value = objective(problem, chosen, limits.penalty)
        best = value if best is None else max(best, value)
    return best


@settings(max_examples=150, deadline=None)
@given(
    problems(),
    st.one_of(st.none(), st.floats(0.5, 8).map(lambda v: round(v, 2))),
    st.one_of(st.none(), st.floats(0.5, 30).map(lambda v: round(v, 2))),
    st.sampled_from([0.0, 0.02, 0.3]),
    st.integers(0, 2**16),
)
def test_equals_brute_force(
    problem: tuple[np.ndarray, ...], active: float | None, hosted: float | None, penalty: float, seed: int
) -> None:
    limits = Limits(active, hosted, penalty)
    allowed = np.random.default_rng(seed).random(problem[0].shape) < 0.8
    allowed[:, 0] = True
    expected = brute_force(problem, limits, allowed)
    if expected is None:
        with pytest.raises(InvalidPrompt):
            solve(*problem, limits, allowed)
        return
    solution = solve(*problem, limits, allowed)
    assert objective(problem, tuple(solution.chosen), penalty) == pytest.approx(expected, abs=1e-6)
    assert active is None or solution.active_params_b <= active + 1e-6
    assert hosted is None or solution.hosted_params_b <= hosted + 1e-6


@settings(max_examples=60, deadline=None)
@given(problems(), st.lists(st.floats(1, 8), min_size=2, max_size=4))
def test_a_larger_budget_never_lowers_the_objective(problem: tuple[np.ndarray, ...], budgets: list[float]) -> None:
    def quality(budget: float) -> float:
        try:
            return solve(*problem, Limits(budget)).quality
        except InvalidPrompt:
            return -1.0

    found = [quality(budget) for budget in sorted(budgets)]
    assert all(later >= earlier - 1e-6 for earlier, later in pairwise(found))
    assert solve(*problem, Limits()).quality >= max(found) - 1e-6


def test_equal_quality_goes_to_the_smaller_expert() -> None:
    solution = solve(np.array([[1.0, 1.0], [0.2, 0.9]]), np.array([0.5, 0.5]), *[np.array([1.0, 9.0])] * 2, Limits())
    assert list(solution.chosen) == [0, 1]
    assert isinstance(solution, Solution)
    assert solution.active_params_b == 5.0


@pytest.mark.parametrize("budget", [None, 8.0])
def test_where_all_are_as_good_the_smallest_answers_everything(budget: float | None) -> None:
    size = np.array([9.0, 1.0, 3.0])
    assert list(solve(np.full((2, 3), 0.5), np.array([0.5, 0.5]), size, size, Limits(budget)).chosen) == [1, 1]


def test_of_equals_of_one_size_the_one_that_is_hosted_anyway() -> None:
    quality, size = np.array([[0.5, 0.5 + 1e-10, 0.0], [0.1, 0.9, 0.0]]), np.array([3.0, 3.0, 1.0])
    assert list(solve(quality, np.array([0.5, 0.5]), size, size, Limits()).chosen) == [1, 1]


@pytest.mark.parametrize(("budget", "expert"), [(None, 2), (9.0, 2), (5.0, 1), (1.5, 0)])
def test_a_cell_without_a_share_has_the_best_expert_that_alone_keeps_to_the_budget(
    budget: float | None, expert: int
) -> None:
    active = np.array([1.0, 4.0, 9.0])
    solution = solve(np.array([[0.1, 0.5, 0.9], [0.1, 0.5, 0.9]]), np.array([1.0, 0.0]), active, active, Limits(budget))
    assert solution.chosen[1] == expert


@pytest.mark.parametrize(
    ("limits", "expert"),
    [(Limits(), 2), (Limits(hosted_params_b=10.0), 0), (Limits(penalty=0.2, active_params_b=20), 1)],
)
def test_a_cell_without_a_share_has_one_of_those_hosted_and_the_best_for_its_parameters(
    limits: Limits, expert: int
) -> None:
    quality, active = np.array([[9.0, 0.1, 0.1], [0.1, 0.8, 0.9]]), np.array([10.0, 1.0, 3.0])
    assert list(solve(quality, np.array([1.0, 0.0]), active, active, limits).chosen) == [0, expert]


@pytest.mark.parametrize("seed", range(12))
def test_the_best_plan_is_found_however_little_better_it_is(seed: int) -> None:
    random = np.random.default_rng(seed)
    size = np.array([7.0, 27.0, 70.0])
    problem = (0.5 + random.random((5, 3)) * 1e-5, random.dirichlet(np.ones(5)), size, size)
    limits = Limits(float(random.uniform(10, 60)))
    expected = brute_force(problem, limits, np.ones((5, 3), bool))
    assert objective(problem, tuple(solve(*problem, limits).chosen), 0.0) == pytest.approx(expected, abs=1e-9)


def test_threads_that_solve_at_once_find_what_each_finds_alone() -> None:
    random = np.random.default_rng(0)
    size = np.array([7.0, 9.0, 27.0, 70.0])
    tables = [(random.random((20, 4)), random.dirichlet(np.ones(20)), size, size) for _ in range(16)]
    limits = [Limits(15.0 + number, 120.0 if number % 2 else None) for number in range(len(tables))]
    alone = [solve(*table, limit).chosen.tolist() for table, limit in zip(tables, limits, strict=True)]
    with ThreadPoolExecutor(4) as threads:
        together = threads.map(lambda table, limit: solve(*table, limit).chosen.tolist(), tables, limits)
        assert list(together) == alone


def test_nothing_is_written_to_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    active = np.array([1.0, 4.0, 9.0])
    quality = np.random.default_rng(0).random((12, 3))
    solve(quality, np.full(12, 1 / 12), active, active, Limits(3.0, 10.0))
    assert capfd.readouterr() == ("", "")


def test_what_can_t_be_hosted_is_not_called_a_matter_of_the_budget() -> None:
    active = np.array([1.0, 4.0])
    nobody = np.array([[True, True], [False, False]])
    with pytest.raises(InvalidPrompt, match="No experts of 4 B in all"):
        solve(np.ones((2, 2)), np.array([0.5, 0.5]), active, active, Limits(3.0, 4.0), nobody)
