"""The same files in llama.cpp, where `xllamacpp` is installed (`pip install xllamacpp`): tokenizers and logits."""

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

pytest.importorskip("xllamacpp")
pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]
KV_BYTES = 16 << 20
PROMPTS = 20
# Of the spread of the log-probabilities.
TOLERANCE = 0.002


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2", "gemma3"])
def test_every_family_gives_llama_cpps_probabilities(tmp_path: Path, family: str) -> None:
    """float32 weights, so that neither side rounds activations to 8 bits."""
    path = write_tiny_gguf(
        tmp_path / "tiny.gguf", TinyModel(family=family, layers=7, kind=Q.F32, tied=family != "qwen2")
    )
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
                assert np.sqrt(np.mean(np.square(difference))) <= TOLERANCE * ours.std()
                compared += 1
    assert compared >= 3


def test_token_ids_of_the_real_expert_equal_llama_cpps(smollm2_bundle: Bundle) -> None:
    tokenizer = ExpertTokenizer.of(smollm2_bundle)
    reference = LlamaCpp(smollm2_gguf())
    assert [text for text in varied_strings(1000) if tokenizer.encode(text) != reference.tokenize(text)] == []
