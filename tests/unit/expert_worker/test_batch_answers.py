"""What a batch emits for its sequences: chunks, and the answer at the end."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.metrics import CallbackOptions
from opentelemetry.trace import INVALID_SPAN

from coe._proto import events_pb2
from coe.expert_worker.batch import Batch
from coe.expert_worker.effects import Answer, Effect, Finish, Grant, Spent, Text
from coe.expert_worker.metrics import WorkerMetrics
from coe.expert_worker.outcome import Identity, chunk, outcome
from coe.experts.logprobs import TokenLogprob
from coe.platform.errors import Cancelled, NumericalError, Unavailable
from coe.platform.telemetry.registry import counter, histogram
from unit.expert_worker.worker_world import FakeEmission, make_prompt

A, B, C = (TokenLogprob(token, -1.5, (TokenLogprob(b"x", -0.5),)) for token in (b"a", b"b", b"c"))


def test_each_logprob_is_in_one_chunk_and_all_are_in_the_answer() -> None:
    """One whose text is held back comes with the next chunk, or with the answer alone."""
    batch = Batch("a", 0.0)
    batch.granted(Grant(1, 1, 1, "hbm"), 0.0)
    batch.join(make_prompt("1"), 0.0)
    effects: list[Effect] = []
    for text, told, finish in (("", (A,), None), ("ab", (B,), None), ("", (C,), "length")):
        emission = FakeEmission("1", text, 1, 3, 3, finish, "ab", logprobs=told, guessed=2, right=1, cached_tokens=2)
        emission = replace(emission, prompt_logprobs=(C, B) if finish else ())
        effects += batch.on_emissions([emission], 1.0)
    (text, finished) = effects
    assert isinstance(text, Text)
    assert text.logprobs == (A, B)
    assert isinstance(finished, Finish)
    assert isinstance(finished.result, Answer)
    assert (finished.result.logprobs, finished.result.guessed, finished.result.right) == ((A, B, C), 6, 3)

    sent = chunk(text).message
    assert isinstance(sent, events_pb2.TokenChunk)
    assert [one.token for one in sent.text.logprobs] == [b"a", b"b"]
    (ended,) = outcome(finished, Identity("w", "n"), 0).publish
    assert isinstance(ended.message, events_pb2.PromptCompleted)
    assert (ended.message.usage.prompt_tokens, ended.message.usage.cached_tokens) == (3, 2)
    assert [one.token for one in ended.message.completion.prompt_logprobs] == [b"c", b"b"]
    told = ended.message.completion.logprobs
    assert [(one.token, one.logprob, one.likeliest[0].token, one.likeliest[0].logprob) for one in told] == [
        (token, -1.5, b"x", -0.5) for token in (b"a", b"b", b"c")
    ]


@given(
    st.lists(st.tuples(st.sampled_from(["", "a", "bc"]), st.floats(0.0, 0.03)), min_size=1, max_size=30),
    st.sampled_from([0.0, 0.02]),
)
def test_text_that_follows_a_chunk_too_soon_is_sent_with_the_next_one(
    steps: list[tuple[str, float]], chunk_s: float
) -> None:
    batch = Batch("a", 0.0, chunk_s)
    batch.granted(Grant(1, 1, 1, "hbm"), 0.0)
    batch.join(make_prompt("1"), 0.0)
    sent: list[tuple[float, Text]] = []
    now = 0.0
    for number, (text, passed) in enumerate(steps, 1):
        now += passed
        finish = "length" if number == len(steps) else None
        told = TokenLogprob(str(number).encode(), -1.0, ())
        emission = FakeEmission("1", text, 1, 3, number, finish, "", logprobs=(told,))
        for effect in batch.on_emissions([emission], now):
            if isinstance(effect, Text):
                assert finish or not sent or now - sent[-1][0] >= chunk_s
                sent.append((now, effect))
    spoken = [text for text, _ in steps if text]
    likelihoods = [int(told.token) for _, text in sent for told in text.logprobs]
    assert likelihoods == list(range(1, len(likelihoods) + 1)), "each is told once"
    assert [text.sequence for _, text in sent] == list(range(len(sent)))
    if sent:
        assert "".join(text.text for _, text in sent) == "".join(spoken)
        assert sum(text.tokens for _, text in sent) == len(spoken)
        # The first one waits for nothing.
        assert sent[0][0] == sum(passed for _, passed in steps[: 1 + [bool(text) for text, _ in steps].index(True)])
    else:
        assert not any(text for text, _ in steps[:-1])


def test_held_text_of_a_failed_answer_is_sent_before_the_error() -> None:
    ends = (
        lambda batch: batch.abort("1", Cancelled("enough"), 1.01),
        lambda batch: batch.fail(Unavailable("away"), 1.01),
        lambda batch: batch.on_emissions(
            [FakeEmission("1", "", 0, 3, 2, "error", "", NumericalError("no number"))], 1.01
        ),
    )
    for end in ends:
        batch = Batch("a", 0.0, 0.02)
        batch.granted(Grant(1, 1, 1, "hbm"), 0.0)
        batch.join(make_prompt("1"), 0.0)
        for text, now in (("a", 1.0), ("b", 1.005)):
            batch.on_emissions([FakeEmission("1", text, 1, 3, 1, None, "")], now)
        rest, finished = end(batch)
        assert isinstance(rest, Text)
        assert (rest.sequence, rest.text) == (1, "b")
        assert isinstance(finished, Finish)
        assert not batch.live


def test_cached_prompt_tokens_are_counted_by_expert() -> None:
    def counted() -> dict[object, float]:
        seen = counter("coe.tokens.cached").observe(CallbackOptions())
        return {(one.attributes or {})["coe.expert.id"]: one.value for one in seen}

    def ended(expert: str, cached: int) -> None:
        answer = Answer("t", "stop", 40, 1, cached_tokens=cached)
        metrics.finished(Finish(make_prompt("1", expert), answer, Spent()), INVALID_SPAN)

    metrics = WorkerMetrics()
    ended("counted", 32)
    ended("counted", 16)
    ended("anew", 0)
    assert {expert: counted()[expert] for expert in ("counted", "anew")} == {"counted": 48, "anew": 0}


def test_an_answer_without_tokens_has_no_time_to_first_token() -> None:
    def timed(expert: str) -> int:
        collected = histogram("gen_ai.server.time_to_first_token").collect(0)
        points = collected.data.data_points if collected is not None else ()
        return sum(one.count for one in points if (one.attributes or {})["gen_ai.request.model"] == expert)

    metrics = WorkerMetrics()
    for expert, tokens in (("silent", 0), ("said", 1)):
        answer = Answer("", "length", 40, tokens)
        metrics.finished(Finish(make_prompt("1", expert), answer, Spent()), INVALID_SPAN)
    assert (timed("silent"), timed("said")) == (0, 1)
