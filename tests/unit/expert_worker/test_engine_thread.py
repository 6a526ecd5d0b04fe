"""The engine's thread starts the next step by itself while there is nothing to decide."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from coe.expert_worker.effects import Grant, Step, StepDone
from coe.expert_worker.engine_thread import EngineThread
from coe.expert_worker.runners import Runners
from coe.platform.errors import InternalError, InvalidPrompt
from support.deadlines import until_true
from unit.expert_worker.worker_world import FakeEmission

STEP = Step("a", Grant(1, 7, 1, "hbm"), leave=("gone",))
ON = StepDone("a", [FakeEmission("1", "t", 1, 3, 1, None, "")])
END = StepDone("a", [FakeEmission("1", "t", 1, 3, 2, "stop", "tt")])


class Scripted(Runners):
    """Gives these results, the last one again and again; each step waits until it is let."""

    def __init__(self, *results: StepDone | Exception) -> None:
        super().__init__(lambda expert_id: pytest.fail("no runner is opened"))
        self.results = list(results)
        self.steps: list[Step] = []
        self.let = threading.Semaphore(0)

    def step(self, step: Step) -> StepDone:
        self.steps.append(step)
        assert self.let.acquire(timeout=10)
        result = self.results.pop(0) if len(self.results) > 1 else self.results[0]
        if isinstance(result, Exception):
            raise result
        return result


class Heard:
    def __init__(self, runners: Scripted) -> None:
        self.runners = runners
        self.results: list[StepDone] = []
        self.failures: list[BaseException] = []
        self.thread = EngineThread(runners, self.results.append, self.failures.append)

    async def step(self) -> None:
        """One of those under way ends, and the loop has heard so."""
        count = len(self.results) + len(self.failures)
        self.runners.let.release()
        await until_true(lambda: len(self.results) + len(self.failures) > count)


@pytest.fixture
async def heard() -> AsyncIterator[Callable[..., Heard]]:
    made: list[Heard] = []

    def make(*results: StepDone | Exception, step: Step = STEP) -> Heard:
        made.append(Heard(Scripted(*results)))
        made[-1].thread.step(step)
        return made[-1]

    yield make
    for one in made:
        one.thread.interrupt()
        one.runners.let.release(100)
        await asyncio.to_thread(one.thread.close)


async def test_steps_follow_each_other_until_a_sequence_ends(heard: Callable[..., Heard]) -> None:
    engine = heard(ON, ON, END)
    for _ in range(3):
        await engine.step()
    assert [done.went_on for done in engine.results] == [True, True, False]
    assert engine.runners.steps == [STEP, Step("a", STEP.grant), Step("a", STEP.grant)]


@pytest.mark.parametrize("closed", [True, False])
async def test_remaining_sequences_continue_if_nobody_waits_for_a_free_place(
    heard: Callable[..., Heard], closed: bool
) -> None:
    engine = heard(replace(END, live=2), replace(END, live=0), step=replace(STEP, closed=closed))
    await engine.step()
    assert engine.results[-1].went_on is closed
    if closed:
        await engine.step()
        assert not engine.results[-1].went_on
        assert engine.runners.steps[-1] == Step("a", STEP.grant, closed=True)


@pytest.mark.parametrize(
    "settling",
    [
        StepDone("a"),
        StepDone("a", ON.emissions, refused=[("2", InvalidPrompt("no"))]),
        StepDone("a", error=InternalError("boom")),
    ],
)
async def test_a_step_that_needs_a_decision_ends_a_run(heard: Callable[..., Heard], settling: StepDone) -> None:
    engine = heard(settling)
    await engine.step()
    assert engine.results == [settling]
    assert len(engine.runners.steps) == 1


@pytest.mark.parametrize("what", ["interrupt", "between_steps", "discard"])
async def test_an_interrupt_takes_effect_after_the_current_step(heard: Callable[..., Heard], what: str) -> None:
    engine = heard(ON)
    await engine.step()
    between = None
    if what == "between_steps":
        between = asyncio.ensure_future(engine.thread.between_steps(lambda: None))
    else:
        getattr(engine.thread, what)(*["a"] * (what == "discard"))
    await engine.step()
    assert [done.went_on for done in engine.results] == [True, False]
    if between is not None:
        await asyncio.wait_for(between, 10)
    engine.thread.step(STEP)
    await engine.step()
    assert engine.results[-1].went_on


async def test_the_engine_waits_for_a_loop_that_falls_behind(heard: Callable[..., Heard]) -> None:
    engine = heard(ON)
    engine.runners.let.release(100)
    engine.thread._pool.submit(lambda: None).result(timeout=10)  # and this thread hears nothing meanwhile
    assert len(engine.runners.steps) == 2
    await until_true(lambda: len(engine.results) == 2)
    assert [done.went_on for done in engine.results] == [True, False]


async def test_a_fault_within_a_run_is_reported(heard: Callable[..., Heard]) -> None:
    engine = heard(ON, RuntimeError("boom"))
    await engine.step()
    await engine.step()
    assert [str(error) for error in engine.failures] == ["boom"]
