"""Steps of odd shapes: prompts in pieces beside decodes, 1 to 64 sequences, windows across KV blocks, eight-bit KV."""

import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Q
from gguf import GGUFReader

from coe.experts.activation_bits import ActivationBits
from coe.experts.engine import Engine
from coe.experts.kv_format import KvFormat
from coe.experts.sampler import Sampler
from coe.experts.sampling_params import SamplingParams
from coe.experts.single import Hosted
from coe.native import packing
from coe.platform.errors import ArtifactError, NumericalError
from support.experts import GraphProbe, import_gguf
from support.gguf_files import TOKENS, TinyModel, write_tiny_gguf
from support.numpy_llm import NumpyLlm

KV_BYTES = 64 << 20
# Of a step: as a batch of decodes, just below and above where kernels change, and prompts whole.
BUDGETS = (12, 48, 64, 600)
# Neither a power of two nor a multiple of a KV block.
WINDOW = 23
MODELS = (
    TinyModel(family="gemma3", layers=7, window=WINDOW, kind=Q.Q8_0),
    TinyModel(family="gemma2", layers=2, window=WINDOW, kind=Q.Q5_1),
    TinyModel(family="llama", kind=Q.F16),
    TinyModel(family="qwen2", kind=Q.Q6_K, hidden=256, heads=16, feed_forward=512, tied=False),
)


def steps_of(lengths: list[int], draw: random.Random, budget: int) -> list[list[tuple[int, int]]]:
    """Each takes one token or a piece of some length, of sequences in any order, at most `budget` tokens together."""
    left = list(lengths)
    steps = []
    while any(left):
        waiting = [index for index, tokens in enumerate(left) if tokens]
        draw.shuffle(waiting)
        step, room = [], budget
        for index in waiting[: draw.randint(1, 64)]:
            size = min(left[index], room, draw.choice((1, 1, 1, 2, 15, 16, 17, 33, 64)))
            if size:
                step.append((index, size))
                left[index] -= size
                room -= size
        steps.append(step)
    return steps


def sequences_of(draw: random.Random, count: int) -> list[list[int]]:
    return [[draw.randrange(len(TOKENS)) for _ in range(draw.choice((1, 15, 17, 40, 97)))] for _ in range(count)]


def relative_rms(ours: np.ndarray, reference: np.ndarray) -> float:
    return float(np.sqrt(((ours - reference) ** 2).mean() / (reference**2).mean()))


@pytest.mark.parametrize(
    ("kv_format", "bits", "tolerance"), [("f32", 16, 2e-3), ("f16", 16, 5e-3), ("i8", 16, 4e-2), ("f16", 8, 4e-2)]
)
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.family)
def test_every_mix_is_close_to_the_reference(
    tmp_path: Path, model: TinyModel, kv_format: KvFormat, bits: ActivationBits, tolerance: float
) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", model)
    bundle = import_gguf(path, tmp_path / "experts", "tiny")
    reference = NumpyLlm(path)
    draw = random.Random(3)
    with Hosted.load(bundle, threads=2, kv_bytes=KV_BYTES) as hosted:
        probe = GraphProbe(bundle, hosted.lease, KV_BYTES, kv_format, activation_bits=bits)
        for budget, count in zip(BUDGETS, (1, 5, 20, 64), strict=True):
            sequences = sequences_of(draw, count)
            found = probe.mixed(sequences, steps_of(list(map(len, sequences)), draw, budget))
            ours, theirs = np.concatenate(found), np.concatenate([reference.logits(ids) for ids in sequences])
            assert relative_rms(ours, theirs) <= tolerance, (budget, count)


@pytest.mark.parametrize(("kv_format", "bits"), [("f16", 16), ("i8", 16), ("f16", 8)])
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.family)
def test_a_batch_invariant_step_gives_the_bits_of_single_tokens(
    tmp_path: Path, model: TinyModel, kv_format: KvFormat, bits: ActivationBits
) -> None:
    bundle = import_gguf(write_tiny_gguf(tmp_path / "tiny.gguf", model), tmp_path / "experts", "tiny")
    draw = random.Random(5)
    with Hosted.load(bundle, threads=2, kv_bytes=KV_BYTES) as hosted:
        probe = GraphProbe(bundle, hosted.lease, KV_BYTES, kv_format, activation_bits=bits)
        sequences = sequences_of(draw, 20)
        alone = [probe.logits(ids, (1,) * len(ids)) for ids in sequences]
        for budget in BUDGETS:
            steps = steps_of(list(map(len, sequences)), draw, budget)
            for one, mixed in zip(alone, probe.mixed(sequences, steps, batch_invariant=True), strict=True):
                np.testing.assert_array_equal(one, mixed)


@pytest.mark.parametrize(
    "model",
    [
        TinyModel(family="llama", kind=Q.Q8_0, context=512),
        TinyModel(family="gemma3", layers=2, window=200, kind=Q.Q8_0, context=512),
    ],
    ids=lambda model: model.family,
)
def test_long_sequences_have_their_bits_too(tmp_path: Path, model: TinyModel) -> None:
    """Their attention is split between threads, as many as are free: fewer where others share the step."""
    bundle = import_gguf(write_tiny_gguf(tmp_path / "tiny.gguf", model), tmp_path / "experts", "tiny")
    draw = random.Random(5)
    length, beside = 400, 6
    sequences = [[draw.randrange(len(TOKENS)) for _ in range(length)] for _ in range(beside)]
    with Hosted.load(bundle, threads=2, kv_bytes=KV_BYTES) as hosted:
        probe = GraphProbe(bundle, hosted.lease, KV_BYTES, "f16")
        alone = probe.logits(sequences[0], (1,) * length)
        together = probe.mixed(sequences, [[(i, 1) for i in range(beside)]] * length, batch_invariant=True)
        np.testing.assert_array_equal(together[0], alone)
        pieces = probe.mixed(sequences[:1], [[(0, 16)]] * (length // 16), batch_invariant=True)
        np.testing.assert_array_equal(pieces[0], alone)


def test_a_seed_decides_whatever_shares_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each token is drawn by every bit of its logits: one that differs anywhere, in any token before, would show."""
    monkeypatch.setattr(Sampler, "sample", lambda self, logits, likeliest: zlib.crc32(logits.tobytes()) % 250)
    bundle = import_gguf(write_tiny_gguf(tmp_path / "tiny.gguf", TinyModel(kind=Q.Q4_1)), tmp_path / "experts", "tiny")
    draw = random.Random(7)
    prompts = {f"seeded{number}": [draw.randrange(256) for _ in range(90)] for number in range(8)}

    def answers(lease: int, *, shared: bool) -> dict[str, list[int]]:
        runner = Engine(threads=2, kv_bytes=KV_BYTES, max_batch=64).runner(bundle)
        ids: dict[str, list[int]] = {name: [] for name in prompts}

        def step() -> None:
            for emission in runner.step(lease):
                ids.setdefault(emission.request_id, []).extend(emission.token_ids)

        for number, (name, prompt) in enumerate(prompts.items()):
            for other in range(5 if shared else 0):
                # One begins like it and has no seed: what it computes is not for who has one.
                beginning = prompt[:80] if other == 0 else [other] * draw.randint(1, 80)
                runner.add_tokens(f"{name}-{other}", beginning, SamplingParams(draw.randint(1, 100), temperature=1.0))
            runner.add_tokens(name, prompt, SamplingParams(60, temperature=1.0, seed=number))
            step()
            while not shared and runner.live:
                step()
        while runner.live:
            step()
        return {name: ids[name] for name in prompts}

    with Hosted.load(bundle, threads=2, kv_bytes=KV_BYTES) as hosted:
        alone = answers(hosted.lease, shared=False)
        assert answers(hosted.lease, shared=True) == alone


@pytest.mark.parametrize("kv_format", ["f16", "i8"])
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_who_begins_behind_what_its_own_step_computes_has_its_bits_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, kv_format: KvFormat
) -> None:
    monkeypatch.setattr(Sampler, "sample", lambda self, logits, likeliest: zlib.crc32(logits.tobytes()) % 250)
    model = TinyModel(family=family, layers=7, window=WINDOW, kind=Q.Q8_0)
    bundle = import_gguf(write_tiny_gguf(tmp_path / "tiny.gguf", model), tmp_path / "experts", "tiny")
    draw = random.Random(11)
    trunk = [draw.randrange(256) for _ in range(48)]
    prompts = [[*trunk[: 16 * (number % 4)], *[number] * (1 + 3 * number)] for number in range(20)]

    def answers(*groups: list[list[int]]) -> list[tuple[int, ...]]:
        ids: dict[str, tuple[int, ...]] = {}
        for group in groups:
            runner = Engine(threads=2, kv_bytes=KV_BYTES, max_batch=64, kv_format=kv_format).runner(bundle)
            for prompt in group:
                runner.add_tokens(str(prompts.index(prompt)), prompt, SamplingParams(3, temperature=1.0, seed=1))
            while runner.live:
                for emission in runner.step(hosted.lease):
                    ids[emission.request_id] = ids.get(emission.request_id, ()) + emission.token_ids
        return [ids[str(number)] for number in range(len(prompts))]

    with Hosted.load(bundle, threads=2, kv_bytes=KV_BYTES) as hosted:
        assert answers(prompts) == answers(*([prompt] for prompt in prompts))


@pytest.mark.parametrize("scale", [0x7E00, 0x7C00], ids=["nan", "inf"])
@pytest.mark.parametrize("tensor", ["ffn_gate", "attn_k", "attn_v", "attn_output"])
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_a_damaged_scale_is_an_error_of_what_it_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, tensor: str, scale: int
) -> None:
    """A bundle of an import that did not look. Nobody goes on from what it has computed."""
    path = write_tiny_gguf(tmp_path / "tiny.gguf", TinyModel(family=family, kind=Q.Q8_0))
    found = next(one for one in GGUFReader(path).tensors if one.name == f"blk.0.{tensor}.weight")
    with path.open("r+b") as file:
        file.seek(found.data_offset)
        file.write(struct.pack("<H", scale))  # of the first block of row 0
    with pytest.raises(ArtifactError, match=r"layer\.0\..*damaged"):
        import_gguf(path, tmp_path / "experts", "tiny")
    monkeypatch.setattr(packing, "_require_numbers", lambda fmt, bits: None)
    bundle = import_gguf(path, tmp_path / "experts", "tiny")
    prompt = [draw % len(TOKENS) for draw in range(3, 43)]
    for kv_format in ("f16", "i8"):
        engine = Engine(threads=1, kv_bytes=KV_BYTES, max_batch=4, kv_format=kv_format)
        with Hosted.load(bundle, threads=1, kv_bytes=KV_BYTES) as hosted:
            runner = engine.runner(bundle)
            for name in ("greedy", "drawn"):
                runner.add_tokens(name, prompt, SamplingParams(4, temperature=float(name == "drawn")))
                ends = []
                while runner.live:
                    ends += runner.step(hosted.lease)
                assert [type(end.error) for end in ends] == [NumericalError]
                assert len(runner._kv.cache) == 0


@pytest.mark.parametrize("kv_format", ["f32", "f16"])
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.family)
def test_what_is_no_number_stays_with_its_sequence(tmp_path: Path, model: TinyModel, kv_format: KvFormat) -> None:
    """Beside it in a batch, and after it in the same KV blocks, others generate what they generate alone."""
    bundle = import_gguf(write_tiny_gguf(tmp_path / "tiny.gguf", model), tmp_path / "experts", "tiny")
    params = SamplingParams(max_tokens=40)
    prompts = {name: [(7 * index + draw) % len(TOKENS) for draw in range(33)] for index, name in enumerate("abc")}

    def generated(hosted: Hosted, engine: Engine, names: str, *, broken: str = "") -> dict[str, tuple[str, object]]:
        runner = engine.runner(bundle, past=names)
        for name in names:
            runner.add_tokens(name, prompts[name], params)
        ends: dict[str, tuple[str, object]] = {}
        while runner.live:
            for emission in runner.step(hosted.lease):
                if emission.finish_reason is not None:
                    ends[emission.request_id] = (emission.final_text, emission.error)
            if broken in runner._sequences and runner._sequences[broken].completion_tokens == 3:
                engine._session(bundle).kv[:, list(runner._sequences[broken].blocks)] = np.nan
        return ends

    with Hosted.load(bundle, threads=2, kv_bytes=KV_BYTES) as hosted:
        alone = {}
        for name in "ac":
            alone |= generated(hosted, Engine(threads=2, kv_bytes=KV_BYTES, max_batch=4, kv_format=kv_format), name)
        engine = Engine(threads=2, kv_bytes=KV_BYTES, max_batch=4, kv_format=kv_format)
        ends = generated(hosted, engine, "abc", broken="b")
        assert {name: ends[name] for name in "ac"} == alone
        assert isinstance(ends["b"][1], NumericalError)
        engine._session(bundle).kv[:] = np.nan
        again = generated(hosted, engine, "a") | generated(hosted, engine, "c")
        assert again == alone
