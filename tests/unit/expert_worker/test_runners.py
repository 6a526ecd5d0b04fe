"""The engine's side of a step: whose fault a failure is."""

import threading

from coe.expert_worker.effects import Grant, Step
from coe.expert_worker.runners import Runner, Runners
from coe.experts.sampling_params import SamplingParams
from coe.platform.errors import ArtifactError, CoEError, InternalError
from unit.expert_worker.worker_fakes import FakeRunner, Panic
from unit.expert_worker.worker_world import make_prompt

GRANT = Grant(1, handle=7, epoch=1, found_in="disk")


class Choosy(FakeRunner):
    def add(
        self, request_id: str, messages: list[dict[str, str]] | None, prompt: str | None, sampling: SamplingParams
    ) -> None:
        if request_id == "poison":
            raise Panic
        super().add(request_id, messages, prompt, sampling)


def open_gate() -> threading.Event:
    gate = threading.Event()
    gate.set()
    return gate


def test_a_prompt_that_breaks_the_tokenizer_is_refused_alone() -> None:
    runners = Runners(lambda expert_id: Choosy(open_gate()))
    join = [make_prompt(key, tokens=2) for key in ("before", "poison", "after")]
    done = runners.step(Step("a", GRANT, join))
    assert done.error is None
    assert [(key, type(error)) for key, error in done.refused] == [("poison", InternalError)]
    assert [emission.request_id for emission in done.emissions] == ["before", "after"]


def test_without_a_runner_nobody_joins_and_the_next_step_may_try_again() -> None:
    """Else the loop took those for sequences of a runner that never heard of them."""
    faults: list[Exception] = [ArtifactError("damaged"), RuntimeError("no memory")]

    def make(expert_id: str) -> Runner:
        if faults:
            raise faults.pop(0)
        return FakeRunner(open_gate())

    runners = Runners(make)
    refusals: list[CoEError] = []
    for key in ("1", "2", "3"):
        done = runners.step(Step("a", GRANT, [make_prompt(key)]))
        assert done.error is None
        refusals += [error for refused, error in done.refused if refused == key]
    assert [type(error) for error in refusals] == [ArtifactError, InternalError]
    assert [emission.request_id for emission in done.emissions] == ["3"]
