"""What was computed before is used again, by whom it may be, and only while it is sound."""

import gc
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coe.experts.kv_sharing import ExpertKv, SharedKv
from coe.experts.prefill_budget import PREFILL_TOKENS
from coe.experts.runner import Runner
from coe.experts.sampling_params import SamplingParams
from coe.experts.sequence import Emission
from coe.native import batch_invariant
from coe.platform.errors import LeaseLost, NumericalError
from unit.experts.fake_session import BLOCK, EOS, FakeSession, finish, greedy, spelled, tokenizer

LIKELIEST = SamplingParams(max_tokens=4)
# Draws the same, but from all logits.
OF_ALL = SamplingParams(max_tokens=4, temperature=1.0, top_k=1)


@pytest.mark.parametrize(
    ("bad", "params"),
    [*((bad, params) for bad in (np.nan, np.inf, -np.inf) for params in (LIKELIEST, OF_ALL)), (30.0, OF_ALL)],
)
def test_logits_that_are_no_numbers_end_their_own_sequence_only(
    runner: Runner, session: FakeSession, bad: float, params: SamplingParams
) -> None:
    """And nobody goes on from what it had computed. A soft cap leaves the same number for every token."""
    beginning = [draw % 50 for draw in range(3 * BLOCK)]
    prompts = {"good": [3, 4], "bad": [*beginning, 1], "gone": [*beginning, 1, 2], "late": [*beginning, 5]}

    def damage(logits: np.ndarray) -> None:
        logits[1:, 3 if bad in (np.nan, np.inf) else slice(None)] = bad

    for request_id in ("good", "bad"):
        runner.add_tokens(request_id, prompts[request_id], params)
    first = runner.step(1)
    assert [emission.error for emission in first] == [None, None]
    # Its beginning is known by now, and is shared.
    runner.add_tokens("gone", prompts["gone"], params)
    session.damage = damage
    session.during = lambda: runner.cancel("gone")
    second = runner.step(1)
    errors = {emission.request_id: emission.error for emission in second}
    assert errors["good"] is None
    assert isinstance(errors["bad"], NumericalError)
    assert errors.keys() == {"good", "bad"}, "who was cancelled meanwhile hears nothing"
    session.damage = lambda logits: None
    session.during = lambda: None
    session.steps.clear()
    runner.add_tokens("late", prompts["late"], params)
    rest = [*first, *(emission for emission in second if emission.error is None)]
    done = finish(runner, [emission for emission in rest if emission.request_id == "good"])
    assert session.steps[0] == 1 + len(prompts["late"]), "nothing of the damaged past is used"
    assert {name: done[name].final_text for name in ("good", "late")} == {
        name: spelled(greedy(prompts[name], 4)) for name in ("good", "late")
    }
    session.pool.check_integrity()


def test_pasts_of_different_names_are_apart(runner: Runner, session: FakeSession) -> None:
    """Also those of prompts that come together, which wait for nothing of the other."""
    prompt = [number % 50 for number in range(5 * BLOCK)]

    def computed(**names: str) -> tuple[list[int], int]:
        session.steps.clear()
        for name, past in names.items():
            runner.add_tokens(name, prompt, SamplingParams(max_tokens=1), past=past)
        done = finish(runner)
        return session.steps.copy(), sum(emission.cached_tokens for emission in done.values())

    assert computed(first="a") == ([len(prompt)], 0)
    assert computed(second="b") == ([len(prompt)], 0)
    assert computed(third="") == ([len(prompt)], 0)
    assert computed(fourth="a") == ([BLOCK], 4 * BLOCK)
    assert computed(fifth="c", sixth="d") == ([2 * len(prompt)], 0)
    session.pool.check_integrity()


def test_names_whose_prompts_fill_no_block_are_forgotten(runner: Runner, kv: SharedKv) -> None:
    for number in range(20):
        runner.add_tokens("short", [1], SamplingParams(max_tokens=2), past=str(number))
        finish(runner)
    gc.collect()
    assert sum(type(one) is ExpertKv and one.shared is kv for one in gc.get_objects()) == 1


def test_a_seed_changes_nothing_where_steps_are_batch_invariant(runner: Runner, session: FakeSession) -> None:
    prompt = [draw % 50 for draw in range(10 * BLOCK + 1)]
    for seed, computed in ((None, len(prompt)), (3, 1)):
        runner.add_tokens("request", prompt, SamplingParams(max_tokens=1, seed=seed))
        finish(runner)
        assert (session.handles[-1], session.steps[-1]) == (1, computed)


def test_elsewhere_who_has_a_seed_gets_such_steps_and_no_others_past(runner: Runner, session: FakeSession) -> None:
    session.batch_invariant = False
    prompt = [draw % 50 for draw in range(10 * BLOCK + 1)]
    runner.add_tokens("plain", prompt, SamplingParams(max_tokens=2))
    finish(runner)
    assert session.handles == [1, 1]
    for name, computed in (("seeded", len(prompt)), ("again", 1)):
        runner.add_tokens(name, prompt, SamplingParams(max_tokens=1, seed=3))
        done = finish(runner)[name]
        assert (done.final_text, done.cached_tokens) == (spelled(greedy(prompt, 1)), len(prompt) - computed)
        assert (session.handles[-1], session.steps[-1]) == (batch_invariant(1), computed)
    runner.add_tokens("plain", prompt, SamplingParams(max_tokens=1))
    finish(runner)
    assert (session.handles[-1], session.steps[-1]) == (1, 1)


def test_the_past_of_a_conversation_is_not_computed_again(runner: Runner, session: FakeSession) -> None:
    prompt = [draw % 50 for draw in range(40)]
    runner.add_tokens("first", prompt, SamplingParams(max_tokens=8))
    first = greedy(prompt, 8)
    finish(runner)
    follow_up = prompt + first + [9, 9, 9]
    runner.add_tokens("second", follow_up, SamplingParams(max_tokens=8))
    emissions = runner.step(1)
    computed = session.steps[-1]
    assert computed < 3 + 2 * BLOCK
    done = finish(runner, emissions)["second"]
    assert (done.final_text, done.cached_tokens) == (spelled(greedy(follow_up, 8)), len(follow_up) - computed)


def test_prompts_that_begin_alike_compute_their_beginning_once(runner: Runner, session: FakeSession) -> None:
    beginning = [draw % 50 for draw in range(10 * BLOCK + 1)]
    prompts = {f"r{number}": [*beginning, number, number] for number in range(4)}
    for request_id, prompt in prompts.items():
        runner.add_tokens(request_id, prompt, SamplingParams(max_tokens=3))
    emissions = runner.step(1)
    assert session.steps == [len(beginning) + 2 + 3 * 3]  # the first prompt, and what is left of the others'
    done = finish(runner, emissions)
    for request_id, prompt in prompts.items():
        assert done[request_id].final_text == spelled(greedy(prompt, 3))
    assert [done[request_id].cached_tokens for request_id in prompts] == [0, *[10 * BLOCK] * 3]


def test_beginnings_that_branch_are_computed_once_in_one_step(runner: Runner, session: FakeSession) -> None:
    trunk = [draw % 50 for draw in range(2 * BLOCK)]
    branches = [[*trunk, *[50 + number] * BLOCK] for number in range(2)]
    prompts = {f"{one}{leaf}": [*branch, leaf] for one, branch in enumerate(branches) for leaf in range(3)}
    for request_id, prompt in prompts.items():
        runner.add_tokens(request_id, prompt, SamplingParams(max_tokens=3))
    done = finish(runner, runner.step(1))
    assert session.steps[0] == len(trunk) + 2 * BLOCK + len(prompts)
    assert {one: done[one].final_text for one in prompts} == {one: spelled(greedy(prompts[one], 3)) for one in prompts}
    session.pool.check_integrity()


def test_behind_who_fails_a_beginning_is_computed_again(runner: Runner, session: FakeSession) -> None:
    beginning = [draw % 50 for draw in range(3 * BLOCK)]

    def damage(logits: np.ndarray) -> None:
        logits[0] = np.nan

    for request_id in ("bad", "behind"):
        runner.add_tokens(request_id, [*beginning, len(request_id)], SamplingParams(max_tokens=2))
    session.damage = damage
    assert [(one.request_id, type(one.error)) for one in runner.step(1)] == [("bad", NumericalError)]
    session.damage = lambda logits: None
    session.kv[:] = -1
    done = finish(runner)["behind"]
    assert (done.final_text, done.cached_tokens) == (spelled(greedy([*beginning, len("behind")], 2)), 0)
    session.pool.check_integrity()


def test_behind_who_is_cancelled_meanwhile_a_beginning_is_there(runner: Runner, session: FakeSession) -> None:
    beginning = [draw % 50 for draw in range(3 * BLOCK)]
    for request_id in ("gone", "behind"):
        runner.add_tokens(request_id, [*beginning, len(request_id)], SamplingParams(max_tokens=2))
    session.during = lambda: runner.cancel("gone")
    done = finish(runner, runner.step(1))["behind"]
    assert (done.final_text, done.cached_tokens) == (spelled(greedy([*beginning, len("behind")], 2)), 3 * BLOCK)
    session.pool.check_integrity()


def test_a_step_that_fails_leaves_prompts_where_they_were(runner: Runner, session: FakeSession) -> None:
    beginning = [draw % 50 for draw in range(3 * BLOCK)]
    for request_id in ("first", "behind"):
        runner.add_tokens(request_id, [*beginning, len(request_id)], SamplingParams(max_tokens=2))
    session.stale = True
    with pytest.raises(LeaseLost):
        runner.step(1)
    session.stale = False
    runner.cancel("first")
    done = finish(runner)["behind"]
    assert (done.final_text, done.cached_tokens) == (spelled(greedy([*beginning, len("behind")], 2)), 0)
    session.pool.check_integrity()


def test_each_token_of_a_prompt_was_computed_or_cached(runner: Runner, session: FakeSession) -> None:
    """Though others' blocks are found several times, before its own and behind them."""
    beginning = [draw % 50 for draw in range(PREFILL_TOKENS + 40)]
    middle = [*beginning[: 2 * BLOCK], 51]
    prompts = {"first": [*beginning, 1], "second": [*beginning, 2], "third": middle, "fourth": [*middle, 3] * 40}
    for request_id in ("first", "second", "third"):
        runner.add_tokens(request_id, prompts[request_id], SamplingParams(max_tokens=1))
    emissions = runner.step(1)
    runner.add_tokens("fourth", prompts["fourth"], SamplingParams(max_tokens=1))
    done = finish(runner, emissions)
    session.pool.check_integrity()
    cached = {request_id: done[request_id].cached_tokens for request_id in prompts}
    assert cached == {"first": 0, "second": PREFILL_TOKENS + 40, "third": 2 * BLOCK, "fourth": 2 * BLOCK}
    assert sum(session.steps) == sum(map(len, prompts.values())) - sum(cached.values())


def test_who_waits_for_a_beginning_goes_on_when_it_is_cancelled(runner: Runner, session: FakeSession) -> None:
    prompt = [draw % 50 for draw in range(PREFILL_TOKENS + 40)]
    runner.add_tokens("first", [*prompt, 1], SamplingParams(max_tokens=2))
    runner.add_tokens("second", [*prompt, 2], SamplingParams(max_tokens=2))
    runner.step(1)
    runner.cancel("first")
    assert finish(runner)["second"].final_text == spelled(greedy([*prompt, 2], 2))
    assert sum(session.steps) < 2 * PREFILL_TOKENS


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_whoever_joins_and_leaves_each_gets_its_own_answer(data: st.DataObject) -> None:
    kv = SharedKv(4096)
    session = FakeSession(kv)
    runner = Runner(session, tokenizer(), kv.expert(session, "weights"), max_batch=16)
    prompts: dict[str, list[int]] = {}
    emissions: list[Emission] = []
    # Few tokens and lengths near whole blocks: many prompts begin alike.
    tokens = st.lists(st.integers(0, 1), min_size=1, max_size=4 * BLOCK)
    for number in range(data.draw(st.integers(2, 12))):
        prompts[f"r{number}"] = data.draw(tokens)
        runner.add_tokens(f"r{number}", prompts[f"r{number}"], SamplingParams(max_tokens=6))
        for _ in range(data.draw(st.integers(0, 3))):
            emissions += runner.step(1)
        if data.draw(st.booleans()):
            runner.cancel(f"r{data.draw(st.integers(0, number))}")
        session.pool.check_integrity()
    while runner.live:
        emissions += runner.step(1)
    for emission in emissions:
        if emission.finish_reason:
            assert emission.final_text == spelled(greedy(prompts[emission.request_id], 6))
    session.pool.check_integrity()
    assert session.pool.used == len(kv.expert(session, "weights").cache)


def test_a_full_past_gives_way_to_new_prompts(runner: Runner, session: FakeSession) -> None:
    draw = random.Random(3)
    for number in range(8):
        prompt = [draw.randrange(EOS) for _ in range(1200)]
        runner.add_tokens(f"r{number}", prompt, SamplingParams(max_tokens=2))
        assert finish(runner)[f"r{number}"].final_text == spelled(greedy(prompt, 2))
