"""The same files in llama.cpp, where `xllamacpp` can be imported: tokenizers and logits.

`pip install --no-deps --target DIR xllamacpp`, then PYTHONPATH=DIR for pytest, leaves the environment as it is.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Q

from coe.experts.bundle import Bundle
from coe.experts.single import Hosted
from coe.experts.tokenizer import ExpertTokenizer
from support.experts import GraphProbe, import_gguf, smollm2_gguf
from support.gguf_files import TOKENS, TinyModel, write_tiny_gguf
from support.llama_cpp import LlamaCpp
from support.strings import varied_strings

pytest.importorskip("xllamacpp", reason="no xllamacpp: the architectures are compared with the numpy reference only")
pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]
KV_BYTES = 16 << 20
PROMPTS = 20
# Of the spread of the log-probabilities.
TOLERANCE, ROUNDED_TOLERANCE = 0.002, 0.1
FORMATS = (Q.F16, Q.BF16, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q8_0, Q.Q4_K, Q.Q5_K, Q.Q6_K)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


MODELS = {
    "llama": TinyModel(layers=7),
    "llama 3.1": TinyModel(layers=7, rope_factors=True, tied=False),
    "qwen2": TinyModel(family="qwen2", layers=7, tied=False),
    "qwen3": TinyModel(family="qwen3", layers=7),
    "gemma2": TinyModel(family="gemma2", layers=7),
    "gemma2 27b": TinyModel(family="gemma2", layers=46, hidden=128),
    "gemma3": TinyModel(family="gemma3", layers=7),
    "gemma3 scaled": TinyModel(family="gemma3", layers=7, rope_scale=8.0),
}


@pytest.mark.parametrize("name", MODELS)
def test_every_architecture_gives_llama_cpps_probabilities(tmp_path: Path, name: str) -> None:
    """float32 weights, so that neither side rounds activations to 8 bits."""
    check(tmp_path, replace(MODELS[name], kind=Q.F32), TOLERANCE)


@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.name)
def test_every_format_gives_llama_cpps_probabilities(tmp_path: Path, kind: Q) -> None:
    """llama.cpp rounds activations to 8 bits in each matrix; float formats round them to 16 at most."""
    check(tmp_path, TinyModel(kind=kind, hidden=256, heads=16, feed_forward=512, tied=False), ROUNDED_TOLERANCE)


def check(tmp_path: Path, model: TinyModel, tolerance: float) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", model)
    bundle = import_gguf(path, tmp_path / "experts", "tiny")
    llama_cpp = LlamaCpp(path, context=256)
    compared = 0
    with Hosted.load(bundle, threads=1, kv_bytes=KV_BYTES) as hosted:
        probe = GraphProbe(bundle, hosted.lease, KV_BYTES)
        for seed in range(PROMPTS):
            ids = np.random.default_rng(seed).integers(0, 180, 33).tolist()
            theirs = llama_cpp.next_log_probabilities(ids, len(TOKENS))
            if theirs:
                ours = log_softmax(probe.logits(ids)[-1])
                difference = [ours[token] - value for token, value in theirs.items()]
                assert np.sqrt(np.mean(np.square(difference))) <= tolerance * ours.std()
                compared += 1
    assert compared >= 3


def test_token_ids_of_the_real_expert_equal_llama_cpps(smollm2_bundle: Bundle) -> None:
    tokenizer = ExpertTokenizer.of(smollm2_bundle)
    reference = LlamaCpp(smollm2_gguf())
    assert [text for text in varied_strings(1000) if tokenizer.encode(text) != reference.tokenize(text)] == []
