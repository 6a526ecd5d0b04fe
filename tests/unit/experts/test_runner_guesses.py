"""Steps that guess give the answers that others give, in fewer steps where the guesses are right."""

import json
import random
import re
from dataclasses import replace

import numpy as np
import pytest

from coe.experts.kv_sharing import SharedKv
from coe.experts.runner import Runner
from coe.experts.sampling_params import SamplingParams
from coe.experts.sequence import Emission
from unit.experts.fake_session import EOS, FakeSession, finish, tokenizer

GUESSES = 3


def runner_of(session: FakeSession, kv: SharedKv, guesses: int) -> Runner:
    return Runner(session, tokenizer(), kv.expert(session, "weights"), max_batch=16, guesses=guesses)


@pytest.mark.parametrize("heat", [0.0, 1.0])
def test_answers_are_the_same(session: FakeSession, kv: SharedKv, heat: float) -> None:
    """Some repeat themselves, others end in the middle of a guess; some share their steps."""
    session.memory = 1
    draw = random.Random(7)
    answers: dict[int, list[tuple[str, str | None, int]]] = {}
    steps = {}
    for guesses in (0, GUESSES):
        runner = runner_of(session, kv, guesses)
        answers[guesses] = []
        draw.seed(7)
        before = len(session.steps)
        for _ in range(30):
            names = [str(number) for number in range(draw.choice((1, 1, 2, 3, 5)))]
            for name in names:
                params = SamplingParams(
                    max_tokens=draw.randrange(1, 60), temperature=heat * draw.random(), seed=draw.randrange(1000)
                )
                runner.add_tokens(name, [draw.randrange(EOS) for _ in range(draw.choice((1, 5, 30)))], params)
            done = finish(runner)
            for ended in map(done.__getitem__, names):
                answers[guesses].append((ended.final_text, ended.finish_reason, ended.completion_tokens))
        steps[guesses] = len(session.steps) - before
        session.pool.check_integrity()
    assert answers[GUESSES] == answers[0]
    assert steps[GUESSES] < steps[0]


@pytest.mark.parametrize("top_logprobs", [None, 0])
def test_what_a_grammar_forces_is_not_drawn(session: FakeSession, kv: SharedKv, top_logprobs: int | None) -> None:
    """Though it is guessed, or its likelihood is asked for: a seed's answer would be another one then."""
    schema = json.dumps({"type": "string", "pattern": "^((A|B)CD){25}$"})
    plain = SamplingParams(max_tokens=200, temperature=1.0, seed=3, json_schema=schema)
    ended, steps = {}, {}
    for guesses, params in ((0, plain), (GUESSES, replace(plain, top_logprobs=top_logprobs))):
        runner = runner_of(session, kv, guesses)
        runner.add_tokens("a", [1], params)
        before = len(session.steps)
        ended[guesses] = finish(runner)["a"]
        steps[guesses] = len(session.steps) - before
        session.pool.check_integrity()
    assert ended[GUESSES].final_text == ended[0].final_text
    assert {"ACD", "BCD"} == set(re.findall("...", json.loads(ended[0].final_text)))
    assert steps[GUESSES] < (steps[0] if top_logprobs is None else ended[GUESSES].completion_tokens)


def test_a_text_that_repeats_itself_takes_a_quarter_of_the_steps(session: FakeSession, kv: SharedKv) -> None:
    session.memory = 1
    session.damage = without_end
    runner = runner_of(session, kv, GUESSES)
    runner.add_tokens("a", [1], SamplingParams(max_tokens=400))
    emissions: list[Emission] = []
    while runner.live:
        emissions += runner.step(1)
    assert len(emissions) < 400 / (1 + GUESSES) + 30
    assert sum(emission.tokens for emission in emissions) == 400
    right = sum(emission.right for emission in emissions)
    assert right == 400 - len(emissions)
    assert right <= sum(emission.guessed for emission in emissions) < right + 10


def test_two_sequences_guess_one_token_each(session: FakeSession, kv: SharedKv) -> None:
    session.memory = 1
    session.damage = without_end
    runner = runner_of(session, kv, GUESSES)
    for name in "ab":
        runner.add_tokens(name, [1], SamplingParams(max_tokens=200))
    guessed = set()
    while runner.live == 2:
        guessed.add(tuple(emission.guessed for emission in runner.step(1)))
    assert (1, 1) in guessed
    assert all(sum(step) <= GUESSES - 1 for step in guessed)


def test_many_sequences_guess_nothing(session: FakeSession, kv: SharedKv) -> None:
    session.memory = 1
    session.damage = without_end
    runner = runner_of(session, kv, GUESSES)
    for name in "abcd":
        runner.add_tokens(name, [1], SamplingParams(max_tokens=100))
    while runner.live:
        assert all(emission.guessed == 0 for emission in runner.step(1))


def test_what_is_no_number_behind_a_guess_harms_nobody(session: FakeSession, kv: SharedKv) -> None:
    """The token in question is drawn again, from a row of its own."""
    ended = []
    for guesses in (0, GUESSES):
        session.damage = of_four
        runner = runner_of(session, kv, guesses)
        runner.add_tokens("a", [1, 2, 3], SamplingParams(max_tokens=200))
        emissions = [*runner.step(1)]
        session.damage = spoil
        while runner.live:
            emissions += runner.step(1)
        ended.append((emissions[-1].final_text, emissions[-1].finish_reason))
    assert ended[1] == ended[0]
    assert max(session.steps[-50:]) == 2
    assert len(emissions) == 200


def without_end(logits: np.ndarray) -> None:
    logits[:, EOS] = -100


def of_four(logits: np.ndarray) -> None:
    """Tokens soon stand together again, and go on in another way."""
    logits[:, 4:] = -100


def spoil(logits: np.ndarray) -> None:
    of_four(logits)
    logits[1:] = np.nan
