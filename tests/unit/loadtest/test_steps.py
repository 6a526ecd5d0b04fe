"""Where a system stops keeping up, how often experts change, and what a baseline says."""

from itertools import islice
from pathlib import Path

import pytest

from loadtest import baseline
from loadtest.baseline import Speed
from loadtest.cost import GENERATOR
from loadtest.loadprofile import Bounds, Phase, Profile, Prompts
from loadtest.prompts import prompts
from loadtest.recorder import Sample, summarise, switches
from loadtest.report import Result
from loadtest.steps import KEEPS_UP, saturation, steps

PROFILE = Profile(
    name="rising",
    phases=(
        Phase(duration_s=10, rate=1, measured=False),
        Phase(duration_s=10, rate=1),
        Phase(duration_s=10, rate=2),
        Phase(duration_s=10, rate=4),
    ),
)


def served(capacity: float) -> list[Sample]:
    """One server that answers `capacity` prompts a second, first come first served."""
    free = 0.0
    samples = []
    start = 0.0
    for number, phase in enumerate(PROFILE.phases):
        for index in range(int(phase.duration_s * phase.rate)):
            at = start + index / phase.rate
            free = max(free, at) + 1 / capacity
            samples.append(Sample(at, 0.0, free - at, free - at, tokens=1, phase=number))
        start += phase.duration_s
    return samples


def test_a_step_for_each_measured_phase() -> None:
    found = steps(PROFILE, served(100))
    assert [step.phase for step in found] == [1, 2, 3]
    assert [step.offered for step in found] == [1, 2, 4]
    # The first answer of the last phase is no later than all are.
    assert [step.answered for step in found] == [1, 2, pytest.approx(4, rel=0.03)]
    assert found[0].latency_ms["p50"] == pytest.approx(10, rel=0.01)
    assert saturation(found) is None


def test_saturation_is_what_was_answered_before_the_line_grew() -> None:
    found = steps(PROFILE, served(3))
    assert saturation(found) == pytest.approx(3, rel=0.05)
    assert found[-1].answered < KEEPS_UP * found[-1].offered


@pytest.mark.parametrize("times", [1.2, 2.0, 4.0])
def test_a_first_phase_that_is_too_much_shows_what_can_be_answered(times: float) -> None:
    profile = Profile(name="one", phases=(Phase(duration_s=100, rate=10 * times),))
    free, samples = 0.0, []
    for index in range(int(1000 * times)):
        at = index / (10 * times)
        free = max(free, at) + 0.1
        samples.append(Sample(at, 0.0, free - at, free - at))
    assert saturation(steps(profile, samples)) == pytest.approx(10, rel=0.02)


def test_switches_are_counted_by_worker() -> None:
    ends = [("a", "x"), ("b", "y"), ("a", "x"), ("a", "y"), ("b", "y"), ("a", "x")]
    samples = [Sample(float(at), 0.0, None, 0.5, expert=name, worker=worker) for at, (worker, name) in enumerate(ends)]
    assert switches(samples) == [3.5, 5.5]
    assert summarise(samples).switches == 2


def test_popularity_falls_with_the_rank() -> None:
    stream = prompts(Prompts(experts=("a", "b", "c")), seed=1)
    asked = [next(stream).expert_id for _ in range(600)]
    assert asked.count("a") > asked.count("b") > asked.count("c") > 0


def test_a_baseline_is_compared_in_units_of_the_machine(tmp_path: Path) -> None:
    result = Result(PROFILE, "kafka", summarise(served(100)), {"router": {"cpu_ms_per_prompt": 2.0}})
    file = baseline.path(result, tmp_path)
    assert baseline.ratios(file, {"CPU a prompt": 1.0}) == {}
    baseline.save(file, baseline.figures(result, Speed(1.0, 1.0)))
    slow_machine = {name: value * 3 for name, value in baseline.figures(result, Speed(3.0, 3.0)).items()}
    compared = baseline.ratios(file, slow_machine)
    assert compared["CPU a prompt"] == pytest.approx(1.0, rel=0.02)
    assert baseline.regressions(compared, Bounds(most_regression=1.1, most_slowdown=1.1)) == []
    assert min(baseline.speed().cpu_ms, baseline.speed().wall_ms) > 0


def test_stacks_elsewhere_have_a_baseline_of_their_own() -> None:
    here, elsewhere = (Result(PROFILE, "kafka", summarise([]), cost) for cost in ({GENERATOR: {}}, {}))
    assert baseline.path(here).name == "rising-kafka.json"
    assert baseline.path(elsewhere).name == "rising-kafka-elsewhere.json"


def test_cpu_and_latency_have_bounds_of_their_own() -> None:
    bounds = Bounds(most_regression=1.5, most_slowdown=4)
    compared = {"CPU a prompt": 2.0, "CPU a prompt, mapper": 1.2, "total p50": 3.0, "first_text p50": 4.1}
    assert baseline.regressions(compared, bounds) == [
        "CPU a prompt is 2.00 times its baseline",
        "first_text p50 is 4.10 times its baseline",
    ]


def test_latencies_of_a_late_generator_are_not_compared() -> None:
    late = [Sample(0.0, 1.0, 1.1, 1.2, tokens=1)] * 20
    result = Result(PROFILE, "kafka", summarise(late), {"router": {"cpu_ms_per_prompt": 2.0}})
    assert baseline.figures(result, Speed(1.0, 1.0)).keys() == {"CPU a prompt", "CPU a prompt, router"}


def test_one_service_can_t_hide_behind_the_others_nor_the_generator_count() -> None:
    cost = {"java": 10.0, "mapper": 1.0, "valkey": 0.1, GENERATOR: 50.0}
    result = Result(PROFILE, "kafka", summarise(served(100)), {n: {"cpu_ms_per_prompt": ms} for n, ms in cost.items()})
    found = baseline.figures(result, Speed(cpu_ms=2.0, wall_ms=1.0))
    assert {name: value for name, value in found.items() if name.startswith("CPU")} == {
        "CPU a prompt": 5.55,
        "CPU a prompt, java": 5.0,
        "CPU a prompt, mapper": 0.5,
    }


def test_runs_ask_the_same_under_other_ids() -> None:
    first, second = (list(islice(prompts(Prompts(), seed=1), 5)) for _ in range(2))
    assert [prompt.prompt for prompt in first] == [prompt.prompt for prompt in second]
    assert {prompt.request_id for prompt in first}.isdisjoint(prompt.request_id for prompt in second)
