"""What grows from the first quarter of a run to the last, and what is said of it."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console

from coe.local.stackfile import ServiceAddress, StackInfo
from loadtest import page
from loadtest.growth import FILES, LATENCY, MEMORY, THREADS, Growth, Look, ended, growths, too_much, watched
from loadtest.loadprofile import Bounds, Phase, Profile, load
from loadtest.recorder import Sample, summarise
from loadtest.report import Result, print_result
from support.deadlines import until_true

PROFILE = Profile(
    name="long",
    phases=(Phase(duration_s=20, rate=1, measured=False), Phase(duration_s=80, rate=1)),
    bounds=Bounds(most_growth=1.25, most_slowdown=4.0),
)


def looks(memory: Callable[[int], float], files: float = 20, threads: float = 10, who: str = "router") -> list[Look]:
    """One a second, the warm-up's too."""
    return [Look(at, {who: {MEMORY: memory(at), FILES: files, THREADS: threads}}) for at in range(100)]


def said(found: list[Look], samples: list[Sample] | None = None) -> list[str]:
    return too_much(growths(PROFILE, found, samples or []), PROFILE.bounds)


def test_quarters_are_of_the_measured_time() -> None:
    found = growths(PROFILE, looks(lambda at: 100.0 + at), [])
    assert Growth("router", MEMORY, first=129.5, last=189.5) in found


def test_what_is_flat_is_no_complaint() -> None:
    assert said(looks(lambda at: 300.0 + at % 10), [Sample(at, 0.0, 0.01, 0.02) for at in range(20, 100)]) == []


def test_a_leak_names_process_amounts_and_bound() -> None:
    (line,) = said(looks(lambda at: 200.0 + 2 * at))
    assert line == "router: 379 MiB of memory in the last quarter, 1.46 times the 259 of the first (most_growth: 1.25)"


def test_what_a_warm_up_takes_is_no_growth() -> None:
    assert said(looks(lambda at: 50.0 if at < 20 else 400.0)) == []


@pytest.mark.parametrize(("what", "little", "much"), [(MEMORY, 10.0, 20.0), (FILES, 15.0, 40.0), (THREADS, 3.0, 5.0)])
def test_twice_a_little_is_noise(what: str, little: float, much: float) -> None:
    assert too_much([Growth("valkey", what, little, 2 * little)], PROFILE.bounds) == []
    (line,) = too_much([Growth("valkey", what, much, 2 * much)], PROFILE.bounds)
    assert line.startswith(f"valkey: {2 * much:.0f} {what} in the last quarter, 2.00 times")


def test_answers_that_come_later_and_later_are_held_to_the_slowdown() -> None:
    samples = [Sample(at, 0.0, None, 0.01 if at < 60 else 0.05) for at in range(20, 100)]
    (line,) = said([], samples)
    assert (
        line == "answers: 50 ms until the answer in the last quarter, 5.00 times the 10 of the first (most_slowdown: 4)"
    )
    lost = [Sample(at, 0.0, None, 60.0, error="lost") for at in range(60, 100)]
    assert said([], [*samples[:40], *lost]) == [], "nothing was answered there: other bounds say so"


def test_a_process_that_was_not_there_throughout_has_no_growth() -> None:
    later = looks(lambda at: 900.0, who="python3")[60:]
    assert growths(PROFILE, later, []) == []


def test_a_service_that_ended_fails_the_run() -> None:
    """What it held is gone with it, and another process of its name begins anew."""
    both = {"router": {MEMORY: 100.0}, "mapper": {MEMORY: 100.0}}
    found = [Look(0, both), Look(1, both), Look(2, {"mapper": {MEMORY: 100.0}})]
    assert ended(found) == ["router"]
    assert ended(found[:2]) == ended([]) == []
    samples = [Sample(float(at), 0.0, 0.01, 0.02) for at in range(20, 100)]
    result = Result(PROFILE, "kafka", summarise(samples), {}, ended=("router",))
    assert result.complaints == ["router exited during the run: see its log"]


def test_a_run_that_grew_fails_and_shows_by_how_much() -> None:
    samples = [Sample(float(at), 0.0, 0.01, 0.02) for at in range(20, 100)]
    found = tuple(growths(PROFILE, looks(lambda at: 200.0 + 2 * at), samples))
    result = Result(PROFILE, "kafka", summarise(samples), {}, growth=found)
    assert [line.partition(":")[0] for line in result.complaints] == ["router"]
    text = io.StringIO()
    print_result(Console(file=text, width=160), result)
    assert "1.46 times the 259" in text.getvalue()
    assert "<td>router</td><td>MiB of memory</td><td>259</td><td>379</td><td>1.46</td>" in page.render(result, samples)
    told = json.loads(json.dumps(result.to_json()))["growth"]
    assert {"who": "answers", "what": LATENCY, "first": 20.0, "last": 20.0} in told


@pytest.fixture
def stack() -> Iterator[StackInfo]:
    """A router, and a broker, which is no service."""
    waiting = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(waiting, stdin=subprocess.PIPE) as router, subprocess.Popen(waiting, stdin=subprocess.PIPE):
        yield StackInfo("", "", "", "", "", services={"router": ServiceAddress(router.pid, "")}, pid=os.getpid())


async def test_services_are_looked_at_by_name(stack: StackInfo) -> None:
    async with watched(stack, PROFILE) as found:
        await until_true(lambda: found)
    assert found[0].held.keys() == {"router"}
    held = found[0].held["router"]
    assert held[MEMORY] > 1
    assert held[FILES] >= 3
    assert held[THREADS] >= 1


def test_other_profiles_do_not_ask() -> None:
    asked_nothing = PROFILE.model_copy(update={"bounds": Bounds()})
    assert growths(asked_nothing, looks(lambda at: 200.0 + 2 * at), [Sample(30.0, 0.0, None, 0.01)]) == []


def test_the_soak_is_held_to_a_bound() -> None:
    assert load("soak").bounds.most_growth
