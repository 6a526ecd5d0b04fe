"""Continuous batching over a session whose next token is a function of the tokens before: no model needed."""

import random
import threading
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from coe._proto import common_pb2
from coe.experts.config import ModelConfig
from coe.experts.kv_blocks import BlockPool
from coe.experts.kv_sharing import SharedKv
from coe.experts.manifest import TokenizerFacts
from coe.experts.prefill_budget import PREFILL_TOKENS, PREFILL_TOKENS_BESIDE_DECODES
from coe.experts.runner import Runner
from coe.experts.sampling_params import SamplingParams
from coe.experts.sequence import Emission
from coe.experts.step_result import StepResult
from coe.experts.tokenizer import ExpertTokenizer
from coe.native import batch_invariant
from coe.platform.errors import CapacityExceeded, ContextExceeded, InvalidPrompt, LeaseLost, NumericalError

VOCABULARY = 64
EOS = 63
BLOCK = 4
CONFIG = ModelConfig(
    architecture="llama", layers=1, hidden=8, heads=1, kv_heads=1, head_dim=16, feed_forward=8, vocabulary=VOCABULARY,
    context_length=2048, norm_epsilon=1e-5, rope_theta=1e4, rope_dim=16, attention_scale=1.0,
)  # fmt: skip


class FakeSession:
    """Keeps tokens where a real one keeps keys and values, and derives logits from what the block table shows."""

    def __init__(self, kv: SharedKv) -> None:
        self.config = CONFIG
        self.batch_invariant = True
        self.pool = BlockPool(kv.budget, block_bytes=BLOCK, block_tokens=BLOCK, blocks=kv.budget.limit // BLOCK)
        self.kv = np.full((self.pool.blocks, BLOCK), -1)
        self.steps: list[int] = []
        self.handles: list[int] = []
        self.stale = False
        self.during = lambda: None
        self.damage: Callable[[np.ndarray], None] = lambda logits: None
        kv.join(self)

    def forget_kv(self) -> None:
        self.pool.forget()
        self.kv[:] = -1

    def run(self, inputs: dict[str, np.ndarray]) -> StepResult:
        if self.stale:
            raise LeaseLost("stale lease")
        self.during()
        self.steps.append(len(inputs["token_ids"]))
        self.handles.append(int(inputs["expert_slot"][0]))
        table = inputs["block_table"]
        for token, position, owner in zip(
            inputs["token_ids"], inputs["positions"], inputs["sequence_ids"], strict=True
        ):
            self.kv[table[owner, position // BLOCK], position % BLOCK] = token
        greedy = inputs["greedy_rows"].tolist()
        rows = [
            self._logits(table[inputs["sequence_ids"][row]], inputs["positions"][row])
            for row in [*inputs["logit_rows"], *greedy]
        ]
        logits = np.array(rows, np.float32).reshape(len(rows), VOCABULARY)
        self.damage(logits)
        whole = StepResult.of_logits(logits)
        return StepResult(whole.likeliest, whole.peaks) if greedy else whole

    def _logits(self, blocks: np.ndarray, position: int) -> np.ndarray:
        seen = self.kv[blocks].ravel()[: position + 1]
        assert (seen >= 0).all()
        return logits_after(seen.tolist())


def logits_after(ids: list[int]) -> np.ndarray:
    return np.random.default_rng(ids).standard_normal(VOCABULARY).astype(np.float32)


def greedy(prompt: list[int], count: int) -> list[int]:
    ids = list(prompt)
    while len(ids) < len(prompt) + count and (len(ids) == len(prompt) or ids[-1] != EOS):
        ids.append(int(np.argmax(logits_after(ids))))
    return ids[len(prompt) :]


def tokenizer() -> ExpertTokenizer:
    vocabulary = {chr(33 + index): index for index in range(VOCABULARY)}
    built = Tokenizer(models.BPE(vocabulary, []))
    built.decoder = decoders.ByteLevel()
    facts = TokenizerFacts(chat_template="", bos_id=None, add_bos=False, eos_ids=(EOS,), sha256="")
    return ExpertTokenizer(built.to_str(), facts)


def spelled(tokens: list[int]) -> str:
    return "".join(chr(33 + token) for token in tokens if token != EOS)


@pytest.fixture
def kv() -> SharedKv:
    return SharedKv(4096)


@pytest.fixture
def session(kv: SharedKv) -> FakeSession:
    return FakeSession(kv)


@pytest.fixture
def runner(kv: SharedKv, session: FakeSession) -> Runner:
    return Runner(session, tokenizer(), kv.expert(session, "weights"), max_batch=16)


def finish(runner: Runner, before: Sequence[Emission] = ()) -> dict[str, Emission]:
    """The last emission of every request; `before` are emissions of steps that a test took itself."""
    done: dict[str, Emission] = {}
    text: dict[str, str] = {}
    emissions = list(before)
    while emissions or runner.live:
        for emission in emissions or runner.step(1):
            assert emission.request_id not in done
            text[emission.request_id] = text.get(emission.request_id, "") + emission.text
            if emission.finish_reason:
                done[emission.request_id] = emission
        emissions = []
    assert {request_id: emission.final_text for request_id, emission in done.items()} == text
    return done


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
        assert finish(runner)[name].final_text == spelled(greedy(prompt, 1))
        assert (session.handles[-1], session.steps[-1]) == (batch_invariant(1), computed)
    runner.add_tokens("plain", prompt, SamplingParams(max_tokens=1))
    finish(runner)
    assert (session.handles[-1], session.steps[-1]) == (1, 1)


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


def test_the_past_of_a_conversation_is_not_computed_again(runner: Runner, session: FakeSession) -> None:
    prompt = [draw % 50 for draw in range(40)]
    runner.add_tokens("first", prompt, SamplingParams(max_tokens=8))
    first = greedy(prompt, 8)
    finish(runner)
    follow_up = prompt + first + [9, 9, 9]
    runner.add_tokens("second", follow_up, SamplingParams(max_tokens=8))
    emissions = runner.step(1)
    assert session.steps[-1] < 3 + 2 * BLOCK
    assert finish(runner, emissions)["second"].final_text == spelled(greedy(follow_up, 8))


def test_prompts_that_begin_alike_compute_their_beginning_once(runner: Runner, session: FakeSession) -> None:
    beginning = [draw % 50 for draw in range(10 * BLOCK + 1)]
    prompts = {f"r{number}": [*beginning, number, number] for number in range(4)}
    for request_id, prompt in prompts.items():
        runner.add_tokens(request_id, prompt, SamplingParams(max_tokens=3))
    emissions = runner.step(1)
    emissions += runner.step(1)
    assert session.steps[0] == len(beginning) + 2
    assert session.steps[1] == 1 + 3 * 3  # the first one's next token, and what is left of the others' prompts
    done = finish(runner, emissions)
    for request_id, prompt in prompts.items():
        assert done[request_id].final_text == spelled(greedy(prompt, 3))


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
