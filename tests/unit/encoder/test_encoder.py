"""The encoder against an independent forward pass and against published values."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from coe.encoder import Encoder, EncoderSpec, open_encoder
from coe.encoder.source import packaged_folder
from coe.platform.errors import ArtifactError
from unit.encoder import numpy_bert

pytestmark = pytest.mark.model

TEXTS = [
    "A man is eating food.",
    "A man is eating a piece of bread.",
    "def add(a, b): return a + b",
    "今日の天気はどうですか？",
    "x",
    "",
]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return open_encoder()


def test_matches_a_plain_numpy_forward_pass(encoder: Encoder) -> None:
    folder = packaged_folder()
    weights = load_file(folder / "model.safetensors")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    expected = [numpy_bert.embed(weights, tokenizer.encode(text).ids, layers=6, heads=12) for text in TEXTS]
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=2e-5)


def test_the_first_layers_alone_match_too(encoder: Encoder) -> None:
    folder = packaged_folder()
    weights = load_file(folder / "model.safetensors")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    cut = open_encoder(EncoderSpec(layers=2))
    expected = [numpy_bert.embed(weights, tokenizer.encode(text).ids, layers=2, heads=12) for text in TEXTS]
    np.testing.assert_allclose(cut.encode(TEXTS), expected, atol=2e-5)
    assert cut.fingerprint != encoder.fingerprint
    with pytest.raises(ArtifactError, match="6 layers"):
        open_encoder(EncoderSpec(layers=7))


def test_the_vocabulary_has_words_and_no_pieces(encoder: Encoder) -> None:
    words = set(encoder.vocabulary())
    assert {"house", "python", "medicine"} <= words
    assert not [word for word in words if word.startswith("##")]


def test_published_vectors_and_similarities(encoder: Encoder) -> None:
    vectors = encoder.encode(["This is an example sentence", *TEXTS[:2]])
    # The first components that sentence-transformers prints for the model card's example.
    np.testing.assert_allclose(vectors[0, :4], [0.0677, 0.0635, 0.0487, 0.0793], atol=1e-4)
    # The pair of the sentence-transformers semantic search example.
    assert vectors[1] @ vectors[2] == pytest.approx(0.7553, abs=1e-3)


def test_a_vector_does_not_depend_on_its_batch(encoder: Encoder) -> None:
    long = "word " * 400
    together = encoder.encode([long, *TEXTS])
    alone = np.concatenate([encoder.encode([text]) for text in [long, *TEXTS]])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_looks_at_no_more_than_its_token_limit() -> None:
    short = open_encoder(EncoderSpec(max_tokens=16))
    (seen,) = short._tokens(["word " * 400])
    assert len(seen) == 16
    np.testing.assert_allclose(short.encode(["word " * 400]), short.encode(["word " * 14]), atol=1e-6)


def test_a_long_text_can_keep_its_end() -> None:
    both = open_encoder(EncoderSpec(max_tokens=18, tail_tokens=4))
    text = "one two three four five six seven eight nine ten eleven twelve " + "middle " * 500 + "the very last words"
    expected = "one two three four five six seven eight nine ten eleven twelve the very last words"
    np.testing.assert_allclose(both.encode([text]), both.encode([expected]), atol=1e-6)


def test_the_end_counts_also_where_the_start_is_one_long_word() -> None:
    both = open_encoder(EncoderSpec(max_tokens=18, tail_tokens=4))
    text = "look at this: " + "A" * 5000 + " what is in the picture"
    (seen,) = both._tokens([text])
    assert len(seen) < 18
    np.testing.assert_allclose(
        both.encode([text]), both.encode(["look at this: " + "A" * 200 + " is in the picture"]), atol=1e-6
    )


def test_half_a_surrogate_pair_is_a_question_mark(encoder: Encoder) -> None:
    np.testing.assert_array_equal(encoder.encode(["what \ud83d is this"]), encoder.encode(["what ? is this"]))


def test_int8_stays_close(encoder: Encoder) -> None:
    small = open_encoder(EncoderSpec(int8=True, threads=2))
    vectors = small.encode(TEXTS)
    assert (encoder.encode(TEXTS) * vectors).sum(1).min() > 0.95
    np.testing.assert_array_equal(vectors, np.concatenate([small.encode([text]) for text in TEXTS]))
    assert small.fingerprint != encoder.fingerprint


def test_nothing_to_encode(encoder: Encoder) -> None:
    assert encoder.encode([]).shape == (0, 384)


def test_the_fingerprint_names_what_vectors_depend_on(encoder: Encoder) -> None:
    assert open_encoder(EncoderSpec(threads=2)).fingerprint == encoder.fingerprint
    assert open_encoder(EncoderSpec(max_tokens=64)).fingerprint != encoder.fingerprint


def test_any_onnx_encoder_folder(encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    packaged = open_encoder()
    (built,) = (tmp_path / "cache").rglob("*.onnx")
    (tmp_path / "model.onnx").symlink_to(built)
    (tmp_path / "tokenizer.json").symlink_to(packaged_folder() / "tokenizer.json")
    exported = open_encoder(EncoderSpec(folder=tmp_path))
    np.testing.assert_array_equal(exported.encode(TEXTS), packaged.encode(TEXTS))
    assert exported.fingerprint != packaged.fingerprint
    with pytest.raises(ArtifactError, match="can't be truncated"):
        open_encoder(EncoderSpec(folder=tmp_path, layers=3))


def test_vectors_have_unit_length_whatever_a_folder_s_model_makes(tmp_path: Path) -> None:
    """As exports do that end with pooling; this one names its width instead of saying it."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("ReduceMean", ["rows", "axes"], ["pooled"], keepdims=0),
    ]
    ids = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "t"]) for name in ("input_ids", "attention_mask")
    ]
    pooled = helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["n", "width"])
    table = np.random.default_rng(0).normal(3, 1, (30522, 8)).astype(np.float32)
    made = [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([1]), "axes")]
    graph = helper.make_graph(nodes, "pooled", ids, [pooled], made)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "model.onnx"
    )
    (tmp_path / "tokenizer.json").symlink_to(packaged_folder() / "tokenizer.json")
    encoder = open_encoder(EncoderSpec(folder=tmp_path))
    assert encoder.dimensions == 8
    np.testing.assert_allclose(np.linalg.norm(encoder.encode(TEXTS), axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("present", ["", "tokenizer.json"])
def test_an_incomplete_folder_is_refused(present: str, tmp_path: Path) -> None:
    if present:
        (tmp_path / present).write_text("{}")
    with pytest.raises(ArtifactError, match="has no"):
        open_encoder(EncoderSpec(folder=tmp_path))


@pytest.mark.parametrize("damaged", ["tokenizer.json", "model.safetensors"])
def test_a_damaged_folder_is_refused(damaged: str, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "model.safetensors", "config.json"):
        (tmp_path / name).symlink_to(packaged_folder() / name)
    (tmp_path / damaged).unlink()
    (tmp_path / damaged).write_bytes(b"\x00 damaged")
    with pytest.raises(ArtifactError, match=damaged if "json" in damaged else "does not hold a BERT"):
        open_encoder(EncoderSpec(folder=tmp_path))


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").symlink_to(packaged_folder() / "tokenizer.json")
    (tmp_path / "model.safetensors").symlink_to(packaged_folder() / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ArtifactError, match="does not hold a BERT"):
        open_encoder(EncoderSpec(folder=tmp_path))
