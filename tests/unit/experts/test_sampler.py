import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from coe.experts.sampler import Sampler, candidates, penalised
from coe.experts.sampling_params import SamplingParams
from coe.platform.errors import InvalidPrompt

LOGITS = arrays(np.float32, st.integers(1, 3000), elements=st.floats(-30, 30, width=32))
PARAMS = st.builds(
    SamplingParams,
    temperature=st.floats(0.05, 5),
    top_p=st.floats(0.01, 1),
    top_k=st.integers(0, 50),
    min_p=st.floats(0, 1),
)


def reference(logits: np.ndarray, params: SamplingParams, rounding: float) -> dict[int, float]:
    """The same filters, told token by token over a sorted list. `rounding` moves the sum that meets top_p."""
    weights = np.exp((logits.astype(np.float64) - logits.max()) / params.temperature)
    ranked = sorted(range(len(weights)), key=lambda token: -weights[token])
    if params.top_k:
        ranked = ranked[: params.top_k]
    whole = sum(weights[token] for token in ranked)
    kept, mass = [], 0.0
    for token in ranked:
        kept.append(token)
        mass += weights[token]
        if params.top_p < 1 and mass >= params.top_p * whole * (1 + rounding):
            break
    return {token: weights[token] for token in kept if weights[token] >= params.min_p}


@settings(deadline=None)
@given(LOGITS, PARAMS)
def test_filters_keep_what_a_plain_reference_keeps(logits: np.ndarray, params: SamplingParams) -> None:
    ids, weights = candidates(logits, params)
    # A sum that meets top_p but for its last bits may fall on either side.
    least, most = (reference(logits, params, rounding) for rounding in (-1e-12, 1e-12))
    assert len(least) <= len(ids) <= len(most)
    np.testing.assert_allclose(sorted(weights)[::-1], sorted(most.values())[::-1][: len(ids)], rtol=1e-9)


def drawn(sampler: Sampler, logits: np.ndarray) -> int:
    return sampler.sample(logits, int(logits.argmax()))


@settings(deadline=None)
@given(LOGITS)
def test_greedy_takes_the_first_of_the_largest(logits: np.ndarray) -> None:
    """With a penalty too, as long as nothing was seen."""
    first = logits.tolist().index(max(logits.tolist()))
    for penalty in (1.0, 2.0):
        assert drawn(Sampler(SamplingParams(repetition_penalty=penalty), [], len(logits)), logits) == first


@settings(deadline=None)
@given(LOGITS, PARAMS, st.integers(0, 2**64 - 1))
def test_a_seed_decides_everything(logits: np.ndarray, params: SamplingParams, seed: int) -> None:
    seeded = SamplingParams(temperature=params.temperature, top_p=params.top_p, seed=seed)
    one, two = (Sampler(seeded, [], len(logits)) for _ in range(2))
    assert [drawn(one, logits) for _ in range(5)] == [drawn(two, logits) for _ in range(5)]


@pytest.mark.parametrize("temperature", [5e-324, 1e-45, 1e-5, 100.0])
@pytest.mark.parametrize("penalty", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("filters", [{}, {"top_p": 1e-45}, {"top_k": 1}, {"min_p": 1.0}], ids=str)
def test_values_at_the_ends_of_their_range(temperature: float, penalty: float, filters: dict[str, float]) -> None:
    """Whatever is drawn is a token, and without heat the likeliest."""
    logits = np.array([-3e4, 3e4, 2.9e4, 0.0], np.float32)
    params = SamplingParams(temperature=temperature, repetition_penalty=penalty, seed=1, **filters)  # type: ignore[arg-type]
    _, weights = candidates(penalised(logits, np.array([False, False, True, True]), penalty), params)
    assert np.isfinite(weights).all()
    assert weights.max() == 1
    token = drawn(Sampler(params, [], 4), logits)
    assert token == 1 if temperature < 1 else token in range(4)


def test_draws_follow_the_probabilities() -> None:
    probabilities = np.array([0.5, 0.3, 0.15, 0.05])
    sampler = Sampler(SamplingParams(temperature=1, seed=3), [], 4)
    logits = np.log(probabilities).astype(np.float32)
    counts = np.bincount([drawn(sampler, logits) for _ in range(20_000)], minlength=4)
    np.testing.assert_allclose(counts / counts.sum(), probabilities, atol=0.015)


def test_penalty_lowers_seen_tokens_of_either_sign() -> None:
    lowered = penalised(np.array([2.0, -2.0, 2.0], np.float32), np.array([True, True, False]), 2.0)
    np.testing.assert_allclose(lowered, [1.0, -4.0, 2.0])


def test_penalty_counts_prompt_and_drawn_tokens() -> None:
    logits = np.array([1.0, 0.9, 0.8], np.float32)
    sampler = Sampler(SamplingParams(repetition_penalty=10), [0], 3)
    assert [drawn(sampler, logits), drawn(sampler, logits)] == [1, 2]


def test_penalties_of_the_answer_leave_the_prompt_alone() -> None:
    logits = np.array([1.0, 0.9, 0.8], np.float32)
    sampler = Sampler(SamplingParams(presence_penalty=0.15), [0], 3)
    assert [drawn(sampler, logits) for _ in range(5)] == [0, 1, 0, 0, 0]
    sampler = Sampler(SamplingParams(frequency_penalty=0.15), [0], 3)
    assert [drawn(sampler, logits) for _ in range(6)] == [0, 1, 0, 2, 1, 0]
    sampler = Sampler(SamplingParams(frequency_penalty=-1), [0], 3)
    assert [drawn(sampler, logits), drawn(sampler, np.array([0.0, 0.9, 0.8], np.float32))] == [0, 0]


@pytest.mark.parametrize(
    "values",
    [
        {"max_tokens": 0},
        {"frequency_penalty": 2.1},
        {"presence_penalty": float("nan")},
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"top_k": -1},
        {"min_p": 2},
        {"repetition_penalty": 0},
        {"repetition_penalty": 1e-4},
        {"repetition_penalty": 1e4},
        {"repetition_penalty": float("nan")},
        {"seed": -1},
        {"stop": ("",)},
        {"stop": ("a",) * 17},
    ],
)
def test_values_out_of_range_are_refused(values: dict) -> None:
    with pytest.raises(InvalidPrompt):
        SamplingParams(**values)
