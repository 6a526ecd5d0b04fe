"""Real experts whose steps guess: the answers that they give without, in fewer steps."""

import random
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType as Q

from coe.experts.bundle import Bundle
from coe.experts.conversation import Conversation
from coe.experts.engine import Engine
from coe.experts.kv_format import KvFormat
from coe.experts.sampling_params import SamplingParams
from coe.experts.single import Hosted
from support.experts import import_gguf
from support.gguf_files import TinyModel, write_tiny_gguf

KV_BYTES = 16 << 20
TEXT = (
    "Heaps are arrays for which a[k] <= a[2*k+1] and a[k] <= a[2*k+2] for all k, counting elements from 0. The "
    "interesting property of a heap is that a[0] is always its smallest element."
)


@pytest.mark.parametrize("kv_format", ["f16", "i8"])
@pytest.mark.parametrize(
    "model",
    [
        TinyModel(family="llama", kind=Q.Q4_1, context=512),
        TinyModel(family="gemma3", layers=2, window=40, kind=Q.Q8_0, context=512),
    ],
    ids=lambda model: model.family,
)
def test_random_models_go_on_the_same_way(tmp_path: Path, model: TinyModel, kv_format: KvFormat) -> None:
    """They soon repeat themselves, and not for ever: guesses are right and wrong."""
    bundle = import_gguf(write_tiny_gguf(tmp_path / "tiny.gguf", model), tmp_path / "experts", "tiny")
    answers, steps = {}, {}
    with Hosted.load(bundle, threads=2, kv_bytes=KV_BYTES) as hosted:
        for guesses in (0, 3):
            engine = Engine(threads=2, kv_bytes=KV_BYTES, max_batch=8, kv_format=kv_format, guesses=guesses)
            answers[guesses], steps[guesses] = generated(engine, bundle, hosted.lease)
    assert answers[3] == answers[0]
    assert steps[3] < steps[0]


def generated(engine: Engine, bundle: Bundle, lease: int) -> tuple[list[list[int]], int]:
    """The tokens of answers that run alone, by two and by three, and how many steps they took."""
    draw = random.Random(3)
    runner = engine.runner(bundle)
    ids: dict[str, list[int]] = {}
    steps = 0
    for number, beside in enumerate((1, 1, 1, 2, 2, 3)):
        for index in range(beside):
            name = f"{number}-{index}"
            ids[name] = []
            heat = draw.choice((0.0, 0.3))
            params = SamplingParams(max_tokens=draw.randint(40, 120), temperature=heat, seed=number)
            runner.add_tokens(name, [draw.randrange(250) for _ in range(draw.randint(1, 60))], params)
        while runner.live:
            steps += 1
            for emission in runner.step(lease):
                ids[emission.request_id] += emission.token_ids
    return list(ids.values()), steps


def test_a_quotation_takes_half_the_steps(smollm2_bundle: Bundle) -> None:
    prompt = Conversation.of(f"Repeat this text word for word:\n\n{TEXT}")
    params = SamplingParams(max_tokens=60, seed=1)
    with Hosted.load(smollm2_bundle, threads=2, guesses=3) as hosted:
        hosted.runner.add("quoted", prompt, params)
        emissions = []
        while hosted.runner.live:
            emissions += hosted.runner.step(hosted.lease)
    assert emissions[-1].completion_tokens == sum(emission.tokens for emission in emissions)
    assert len(emissions) < emissions[-1].completion_tokens / 2
