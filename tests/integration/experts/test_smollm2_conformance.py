"""The real expert through the real ops, against an independent numpy run of the same GGUF file."""

from collections.abc import Iterator

import numpy as np
import pytest

from coe.experts.bundle import Bundle
from coe.experts.conversation import Conversation
from coe.experts.sampling_params import SamplingParams
from coe.experts.single import Hosted
from coe.experts.tokenizer import ExpertTokenizer
from support.experts import GraphProbe, smollm2_gguf
from support.numpy_llm import NumpyLlm

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]

# Root mean square of the difference over that of the reference's logits. Exact: the graph and its float32 arithmetic.
# As served: activations keep about 15 bits at every quantised matrix.
EXACT_TOLERANCE = 1e-4
SERVED_TOLERANCE = 1e-3
# Of the same tokens in other pieces: long and short ones may be multiplied by different kernels.
PIECES_TOLERANCE = 5e-4
NEW_TOKENS = 24
# Prompt -> its token ids, and those of the greedy answer.
Answers = dict[str, tuple[list[int], list[int]]]
PROMPTS = (
    "Why is the sky blue?",
    "Write a Python function that reverses a linked list.",
    "What is 17 * 23? Show your work.",
    "Translate 'good morning, my friend' into French and Spanish.",
    "List five symptoms of dehydration.",
    "Explain the difference between a stock and a bond.",
    "What does habeas corpus mean?",
    "\u65e5\u672c\u306e\u9996\u90fd\u306f\u3069\u3053\u3067\u3059\u304b\uff1f",
    "Hi! How are you today?",
    "Tell me a story about a lighthouse keeper and a storm.",
)


@pytest.fixture(scope="module")
def hosted(smollm2_bundle: Bundle) -> Iterator[Hosted]:
    with Hosted.load(smollm2_bundle, threads=1, kv_bytes=256 << 20) as hosted:
        yield hosted


@pytest.fixture(scope="module")
def reference() -> NumpyLlm:
    return NumpyLlm(smollm2_gguf())


@pytest.fixture(scope="module")
def answers(hosted: Hosted, smollm2_bundle: Bundle) -> Answers:
    """All ten share batches."""
    tokenizer = ExpertTokenizer.of(smollm2_bundle)
    prompts = {text: tokenizer.encode_prompt(Conversation.of(text)) for text in PROMPTS}
    for text, ids in prompts.items():
        hosted.runner.add_tokens(text, ids, SamplingParams(max_tokens=NEW_TOKENS))
    answers: dict[str, list[int]] = {text: [] for text in prompts}
    while hosted.runner.live:
        for emission in hosted.runner.step(hosted.lease):
            answers[emission.request_id] += emission.token_ids
    return {text: (ids, answers[text]) for text, ids in prompts.items()}


@pytest.fixture(scope="module")
def expected(reference: NumpyLlm, answers: Answers) -> dict[str, np.ndarray]:
    """The reference's logits along each prompt and the answer that was served to it."""
    return {text: reference.logits(prompt + answer) for text, (prompt, answer) in answers.items()}


def test_exact_logits_equal_the_reference(
    hosted: Hosted,
    smollm2_bundle: Bundle,
    answers: Answers,
    expected: dict[str, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COE_NATIVE_EXACT", "1")
    probe = GraphProbe(smollm2_bundle, hosted.lease)
    # The first two in full, so that every greedy choice is compared; 32 positions of the others.
    for number, (text, (prompt, answer)) in enumerate(answers.items()):
        ids = prompt + answer if number < 2 else prompt[:32]
        ours = probe.logits(ids)
        assert relative_rms(ours, expected[text][: len(ids)]) <= EXACT_TOLERANCE
        np.testing.assert_array_equal(ours.argmax(axis=1), expected[text][: len(ids)].argmax(axis=1))


def test_served_logits_stay_close_to_the_reference(
    hosted: Hosted, smollm2_bundle: Bundle, answers: Answers, expected: dict[str, np.ndarray]
) -> None:
    probe = GraphProbe(smollm2_bundle, hosted.lease)
    worst = max(relative_rms(probe.logits(prompt[:32]), expected[text][:32]) for text, (prompt, _) in answers.items())
    print(f"relative rms {worst:.4f}")
    assert worst <= SERVED_TOLERANCE


def test_the_greedy_head_gives_the_first_maximum_of_the_logits(
    hosted: Hosted, smollm2_bundle: Bundle, answers: Answers
) -> None:
    """At every position of real texts, by the upper bits of most of the output matrix alone."""
    assert smollm2_bundle.manifest.tensors["embedding"].format == "q8_0_planes"
    probe = GraphProbe(smollm2_bundle, hosted.lease)
    for prompt, answer in answers.values():
        ids = prompt + answer
        # Few enough at a time for both heads to multiply with the same bits.
        sizes = tuple(min(40, len(ids) - at) for at in range(0, len(ids), 40))
        logits, (likeliest, peaks) = probe.logits(ids, sizes), probe.likeliest(ids, sizes)
        np.testing.assert_array_equal(likeliest, logits.argmax(axis=1))
        np.testing.assert_array_equal(peaks, logits.max(axis=1))


def test_greedy_answers_are_the_references(answers: Answers, expected: dict[str, np.ndarray]) -> None:
    """24 tokens each, as served. Every choice is compared, given the same tokens before it."""
    equal = 0
    for text, (prompt, answer) in answers.items():
        best = expected[text][len(prompt) - 1 : -1].argmax(axis=1)
        equal += best.tolist() == answer
    print(f"greedy answers equal: {equal} of {len(answers)}")
    assert equal >= 9


def relative_rms(ours: np.ndarray, reference: np.ndarray) -> float:
    return float(np.sqrt(((ours - reference) ** 2).mean() / (reference**2).mean()))


def test_chunks_and_decode_steps_compute_the_same(hosted: Hosted, smollm2_bundle: Bundle) -> None:
    ids = ExpertTokenizer.of(smollm2_bundle).encode("The quick brown fox jumps over the lazy dog. " * 5)[:40]
    probe = GraphProbe(smollm2_bundle, hosted.lease)
    whole = probe.logits(ids)
    for chunks in ((17, 23), (1,) * 40, (16, 16, 8)):
        assert relative_rms(probe.logits(ids, chunks), whole) <= PIECES_TOLERANCE
