"""Continuous batching: each gets what it would get alone, in steps of a bounded size."""

import random
import threading
from dataclasses import replace

import numpy as np
import pytest

from coe._proto import common_pb2
from coe.experts.kv_sharing import SharedKv
from coe.experts.prefill_budget import PREFILL_TOKENS, PREFILL_TOKENS_BESIDE_DECODES
from coe.experts.runner import Runner
from coe.experts.sampling_params import SamplingParams
from coe.experts.sequence import Emission
from coe.experts.tool_calls import Tool, ToolUse
from coe.platform.errors import CapacityExceeded, ContextExceeded, InvalidPrompt, LeaseLost
from unit.experts.fake_session import BLOCK, EOS, VOCABULARY, FakeSession, finish, greedy, spelled


def test_many_sequences_generate_what_each_generates_alone(runner: Runner, session: FakeSession) -> None:
    draw = random.Random(5)
    prompts = {f"r{n}": [draw.randrange(EOS) for _ in range(draw.choice((1, 3, 70, 200)))] for n in range(12)}
    emissions: list[Emission] = []
    for request_id, prompt in prompts.items():
        runner.add_tokens(request_id, prompt, SamplingParams(max_tokens=20))
        emissions += runner.step(1)
    done = finish(runner, emissions)
    assert {request_id: emission.final_text for request_id, emission in done.items()} == {
        request_id: spelled(greedy(prompt, 20)) for request_id, prompt in prompts.items()
    }
    session.pool.check_integrity()


@pytest.mark.parametrize(("context", "cache"), [(60, 4096), (4096, 4)])
def test_who_asks_for_no_length_gets_what_context_and_cache_leave(
    runner: Runner, session: FakeSession, context: int, cache: int
) -> None:
    """One that names a length that does not fit is refused."""

    def endless(logits: np.ndarray) -> None:
        logits[:, EOS] = -100

    session.config = session.config.model_copy(update={"context_length": context})
    session.pool.blocks = cache
    session.damage = endless
    most = min(context, cache * BLOCK + 1)
    sampling = SamplingParams.from_proto(common_pb2.SamplingParams())
    runner.add_tokens("open", [3, 4, 5], sampling)
    done = finish(runner)["open"]
    assert (done.completion_tokens, done.finish_reason) == (most - 3, "length")
    with pytest.raises(ContextExceeded):
        runner.add_tokens("named", [3, 4, 5], SamplingParams(max_tokens=most - 2))
    with pytest.raises(ContextExceeded):
        runner.add_tokens("long", [3] * most, sampling)
    session.pool.check_integrity()


def test_sampling_does_not_depend_on_the_batch(kv: SharedKv, runner: Runner) -> None:
    params = SamplingParams(max_tokens=30, temperature=1.0, top_p=0.9, seed=11)
    runner.add_tokens("alone", [1, 2, 3], params)
    alone = finish(runner)["alone"]
    for number in range(5):
        runner.add_tokens(f"other{number}", [number] * 9, SamplingParams(max_tokens=25, temperature=1.0))
    before = runner.step(1)
    runner.add_tokens("shared", [1, 2, 3], params)
    assert finish(runner, before)["shared"].final_text == alone.final_text


def test_prefill_is_chunked_and_small_beside_decodes(runner: Runner, session: FakeSession) -> None:
    runner.add_tokens("decoding", [1], SamplingParams(max_tokens=60))
    assert len(runner.step(1)) == 1
    runner.add_tokens("long", [2] * 200, SamplingParams(max_tokens=1))
    emissions = runner.step(1)
    assert [emission.request_id for emission in emissions] == ["decoding"]
    assert session.steps[-1] == 1 + PREFILL_TOKENS_BESIDE_DECODES
    runner.cancel("decoding")
    runner.add_tokens("longer", [3] * 900, SamplingParams(max_tokens=1))
    runner.step(1)
    assert session.steps[-1] == PREFILL_TOKENS


def test_more_prompts_may_hold_a_decode_up_longer(runner: Runner, session: FakeSession) -> None:
    runner.add_tokens("decoding", [1], SamplingParams(max_tokens=60))
    runner.step(1)
    for number in range(3):
        runner.add_tokens(f"r{number}", [number + 2] * 200, SamplingParams(max_tokens=1))
    runner.step(1)
    assert session.steps[-1] == 1 + 3 * PREFILL_TOKENS_BESIDE_DECODES


def test_a_stale_lease_loses_nothing(runner: Runner, session: FakeSession) -> None:
    runner.add_tokens("a", [1, 2, 3], SamplingParams(max_tokens=8))
    runner.step(1)
    session.stale = True
    with pytest.raises(LeaseLost):
        runner.step(1)
    session.stale = False
    assert finish_text(runner) == spelled(greedy([1, 2, 3], 8))[1:]


def finish_text(runner: Runner) -> str:
    text = ""
    while runner.live:
        text += "".join(emission.text for emission in runner.step(2))
    return text


def test_cancel_frees_at_once(runner: Runner, session: FakeSession) -> None:
    runner.add_tokens("a", [1] * 40, SamplingParams(max_tokens=8))
    runner.cancel("a")
    runner.cancel("a")
    assert runner.live == 0
    assert session.pool.idle


def test_cancel_during_a_step_takes_effect_at_its_end(runner: Runner, session: FakeSession) -> None:
    runner.add_tokens("a", [1], SamplingParams(max_tokens=8))
    runner.add_tokens("b", [2], SamplingParams(max_tokens=8))

    def cancel_from_another_thread() -> None:
        thread = threading.Thread(target=runner.cancel, args=("a",))
        thread.start()
        thread.join(5)
        assert not thread.is_alive()
        assert not session.pool.idle

    session.during = cancel_from_another_thread
    assert [emission.request_id for emission in runner.step(1)] == ["b"]
    assert runner.live == 1


def test_limits_are_told_apart(kv: SharedKv, runner: Runner) -> None:
    with pytest.raises(ContextExceeded, match="context of 2048"):
        runner.add_tokens("a", [1] * 2000, SamplingParams(max_tokens=49))
    with pytest.raises(InvalidPrompt):
        runner.add_tokens("a", [], SamplingParams())
    with pytest.raises(InvalidPrompt):
        runner.add_tokens("a", [VOCABULARY], SamplingParams())
    runner.add_tokens("a", [1], SamplingParams())
    with pytest.raises(InvalidPrompt, match="already"):
        runner.add_tokens("a", [1], SamplingParams())
    for number in range(15):
        runner.add_tokens(f"r{number}", [1], SamplingParams(max_tokens=1))
    with pytest.raises(CapacityExceeded, match="batch"):
        runner.add_tokens("over", [1], SamplingParams())


def test_a_full_cache_is_a_matter_of_time(kv: SharedKv, runner: Runner) -> None:
    for number in range(2):
        runner.add_tokens(f"r{number}", [1] * 1900, SamplingParams(max_tokens=100))
    with pytest.raises(CapacityExceeded, match="KV"):
        runner.add_tokens("third", [1] * 1900, SamplingParams(max_tokens=100))
    runner.close()
    runner.add_tokens("third", [1] * 1900, SamplingParams(max_tokens=100))


def test_a_stop_string_ends_the_answer_before_it(runner: Runner) -> None:
    whole = spelled(greedy([7], 12))
    stop = whole[3:5]
    runner.add_tokens("a", [7], SamplingParams(max_tokens=12, stop=(stop,)))
    done = finish(runner)["a"]
    assert (done.final_text, done.finish_reason) == (whole[: whole.find(stop)], "stop")


def test_max_tokens_ends_the_answer_with_length(runner: Runner) -> None:
    runner.add_tokens("a", [7], SamplingParams(max_tokens=3))
    done = finish(runner)["a"]
    assert (done.finish_reason, done.completion_tokens, done.prompt_tokens) == ("length", 3, 1)


@pytest.mark.parametrize("top", [None, 0])
def test_an_answer_may_go_on_behind_what_ends_turns(runner: Runner, session: FakeSession, top: int | None) -> None:
    """Which says nothing, and is a token like others."""

    def every_other(logits: np.ndarray) -> None:
        logits[:, EOS] = 100 if len(session.steps) % 2 else -100

    session.damage = every_other
    params = SamplingParams(max_tokens=9, top_logprobs=top, ignore_eos=True)
    runner.add_tokens("a", [7], params)
    emissions: list[Emission] = []
    while runner.live:
        emissions += runner.step(1)
    drawn = [token for emission in emissions for token in emission.token_ids]
    assert [token == EOS for token in drawn] == [True, False] * 4 + [True]
    last = emissions[-1]
    assert (last.finish_reason, last.completion_tokens) == ("length", 9)
    assert last.final_text == "".join(emission.text for emission in emissions) == spelled(drawn)
    assert len([one for emission in emissions for one in emission.logprobs]) == (0 if top is None else 9)
    said = spelled(drawn)
    session.steps.clear()
    runner.add_tokens("a", [7], replace(params, stop=(said[1:3],)))
    done = finish(runner)["a"]
    assert (done.final_text, done.finish_reason, done.completion_tokens) == (said[:1], "stop", 6)
    session.steps.clear()
    runner.add_tokens("a", [7], replace(params, ignore_eos=False))
    assert finish(runner)["a"].completion_tokens == 1


@pytest.mark.parametrize(
    ("schema", "tools", "named"), [("{}", None, "json_schema"), (None, ToolUse((Tool("f", "", "{}"),)), "tools")]
)
def test_what_a_grammar_ends_can_not_go_on(
    runner: Runner, schema: str | None, tools: ToolUse | None, named: str
) -> None:
    with pytest.raises(InvalidPrompt, match=f"combined with {named}") as refused:
        runner.add_tokens("a", [7], SamplingParams(json_schema=schema, ignore_eos=True), tools)
    assert refused.value.details["param"] == "ignore_eos"
    assert runner.live == 0
