"""The engine's side of a step: which prompts a failure is attributed to."""

import threading
from dataclasses import replace

import pytest

from coe.expert_worker.effects import Grant, Step
from coe.expert_worker.runners import Runner, Runners
from coe.experts.conversation import Conversation
from coe.experts.sampling_params import SamplingParams
from coe.platform.errors import ArtifactError, CoEError, InternalError, LeaseLost
from unit.expert_worker.worker_fakes import FakeRunner, Panic
from unit.expert_worker.worker_world import make_prompt

GRANT = Grant(1, handle=7, epoch=1, found_in="disk")


class Choosy(FakeRunner):
    def add(self, request_id: str, conversation: Conversation, sampling: SamplingParams) -> None:
        if request_id == "poison":
            raise Panic
        super().add(request_id, conversation, sampling)


def open_gate() -> threading.Event:
    gate = threading.Event()
    gate.set()
    return gate


def leased(bundle: str) -> Grant:
    return replace(GRANT, bundle=bundle)


def test_a_lease_on_other_weights_gets_a_runner_of_its_own() -> None:
    made: list[FakeRunner] = []

    def make(expert_id: str) -> Runner:
        made.append(FakeRunner(open_gate()))
        return made[-1]

    now = ["old"]
    runners = Runners(make, lambda expert_id: now[0])
    assert runners.step(Step("a", leased("old"), [make_prompt("1")])).error is None
    runners.step(Step("a", leased("old"), [make_prompt("2")]))
    assert len(made) == 1
    now[0] = "new"
    done = runners.step(Step("a", leased("new"), [make_prompt("3", tokens=2)]))
    assert [emission.request_id for emission in done.emissions] == ["3"]
    assert len(made) == 2
    # What has begun with some weights never goes on with others.
    now[0] = "newer"
    done = runners.step(Step("a", leased("newer"), [make_prompt("4")]))
    assert isinstance(done.error, LeaseLost)
    assert [(key, type(error)) for key, error in done.refused] == [("4", LeaseLost)]
    assert len(made) == 2
    # Once they have left, it may.
    assert runners.step(Step("a", leased("newer"), [make_prompt("4")], leave=["3"])).error is None


def test_weights_that_were_replaced_after_their_lease_are_leased_again() -> None:
    runners = Runners(lambda expert_id: FakeRunner(open_gate()), lambda expert_id: "new")
    done = runners.step(Step("a", leased("old"), [make_prompt("1")]))
    assert isinstance(done.error, LeaseLost)
    done = runners.step(Step("a", leased("new"), [make_prompt("1")]))
    assert [emission.request_id for emission in done.emissions] == ["1"]


def test_a_prompt_that_breaks_the_tokenizer_is_refused_alone() -> None:
    runners = Runners(lambda expert_id: Choosy(open_gate()))
    join = [make_prompt(key, tokens=2) for key in ("before", "poison", "after")]
    done = runners.step(Step("a", GRANT, join))
    assert done.error is None
    assert [(key, type(error)) for key, error in done.refused] == [("poison", InternalError)]
    assert [emission.request_id for emission in done.emissions] == ["before", "after"]


def test_if_a_runner_fails_to_open_nobody_joins_and_the_next_step_retries() -> None:
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


@pytest.mark.parametrize(("apart", "pasts"), [(False, ["", "", ""]), (True, ["acme", "labs", ""])])
def test_tenants_share_cached_prefixes_unless_configured_otherwise(*, apart: bool, pasts: list[str]) -> None:
    seen: list[str] = []

    class Noting(FakeRunner):
        def add(self, request_id: str, conversation: Conversation, sampling: SamplingParams) -> None:
            seen.append(conversation.past)
            super().add(request_id, conversation, sampling)

    prompts = [make_prompt(name) for name in "123"]
    for prompt, tenant in zip(prompts, ("acme", "labs", ""), strict=True):
        prompt.assigned.prompt.tenant = tenant
    Runners(lambda expert_id: Noting(open_gate()), tenants_apart=apart).step(Step("a", GRANT, prompts))
    assert seen == pasts
