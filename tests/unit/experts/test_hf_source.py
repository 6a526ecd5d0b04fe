import json
import random
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from safetensors.numpy import save_file

from coe.experts.gguf_source import GgufSource
from coe.experts.grammar import Grammars
from coe.experts.hf_config import read_hf_config
from coe.experts.hf_source import HfSource
from coe.experts.layout import plan_tensors
from coe.experts.safetensors_file import SafetensorsFile
from coe.platform.errors import ArtifactError
from support.gguf_files import TOKENS, TinyModel, write_tiny_gguf
from support.hf_folders import write_hf_folder

FAMILIES = ("llama", "qwen2", "qwen3", "gemma2", "gemma3")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_is_the_same_model_as_its_gguf(tmp_path: Path, family: str) -> None:
    model = TinyModel(family=family, layers=6, kind=GGMLQuantizationType.F32, tied=family != "qwen2")
    path = write_tiny_gguf(tmp_path / "tiny.gguf", model)
    gguf, folder = GgufSource.open(path), HfSource(write_hf_folder(tmp_path / "hf", path, model))
    try:
        np.testing.assert_allclose(
            list(folder.config.model_dump(exclude={"architecture", "activation"}).values())[:10],
            list(gguf.config.model_dump(exclude={"architecture", "activation"}).values())[:10],
        )
        assert folder.config.window_pattern == gguf.config.window_pattern
        assert set(folder.tensors) == set(gguf.tensors)
        for tensor in plan_tensors(folder.config, folder.tensors):
            for part in tensor.sources:
                ours = folder.read_rows(part, 0, part.rows).view(np.float32)
                theirs = gguf.read_rows(gguf.tensors[part.name], 0, part.rows).view(np.float32)
                np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
        assert folder.tokenizer().eos_ids == gguf.tokenizer().eos_ids
        assert folder.tokenizer().chat_template == gguf.tokenizer().chat_template
    finally:
        gguf.close()
        folder.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = TinyModel(kind=GGMLQuantizationType.F32)
    return write_hf_folder(tmp_path / "hf", write_tiny_gguf(tmp_path / "tiny.gguf", model), model)


def test_a_missing_shard_is_named(folder: Path) -> None:
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"incomplete: model-00002-of-00002"):
        HfSource(folder)


@pytest.mark.parametrize("named", ["../x.safetensors", "/etc/passwd", "", ".", 5])
def test_an_index_names_files_of_its_folder_only(folder: Path, named: object) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": named}}))
    with pytest.raises(ArtifactError, match="incomplete"):
        HfSource(folder)


def test_the_same_weights_in_another_form_do_not_disturb(folder: Path) -> None:
    save_file({"norm.weight": np.ones(64, np.float32)}, folder / "consolidated.safetensors")
    HfSource(folder).close()


@pytest.mark.parametrize("name", [5, None, [], "", "a/b\ud800"])
def test_a_name_that_is_none_is_not_used(folder: Path, name: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"_name_or_path": name}))
    source = HfSource(folder)
    source.close()
    assert source.card.name == ("b?" if isinstance(name, str) and name else "hf")


def test_quantised_folders_are_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(ArtifactError, match="quantised"):
        HfSource(folder)


def test_fine_tunes_are_told_apart(tmp_path: Path, folder: Path) -> None:
    model = TinyModel(kind=GGMLQuantizationType.F32, seed=1)
    other = write_hf_folder(tmp_path / "other", write_tiny_gguf(tmp_path / "other.gguf", model), model)
    cards = []
    for path in (folder, other, folder):
        source = HfSource(path)
        cards.append(source.card.fingerprint)
        source.close()
    assert cards[0] == cards[2] != cards[1]


def test_what_templates_call_eos_is_what_the_folder_calls_so(folder: Path) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_start|>"}))
    source = HfSource(folder)
    source.close()
    assert source.tokenizer().eos_ids == (TOKENS.index("<|im_end|>"), TOKENS.index("<|im_start|>"))


def test_an_end_that_only_the_config_names_ends_answers(folder: Path) -> None:
    """As transformers has it: where there is no generation_config.json, or it names none."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": [5, 6]}))
    source = HfSource(folder)
    source.close()
    assert {5, 6} <= set(source.tokenizer().eos_ids)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 7}))
    assert {5, 6, 7} & set(source.tokenizer().eos_ids) == {7}


@pytest.mark.parametrize("special", [True, False])
def test_a_tag_of_html_ends_no_answer(folder: Path, special: bool) -> None:
    document = json.loads((folder / "tokenizer.json").read_text())
    tag = {**document["added_tokens"][0], "id": 300, "content": "</s>", "special": special}
    document["added_tokens"].append(tag)
    (folder / "tokenizer.json").write_text(json.dumps(document))
    source = HfSource(folder)
    source.close()
    tag_id = source.tokenizer().eos_ids[0]
    assert (tag_id >= len(TOKENS)) is special


def test_ends_that_are_no_tokens_are_left_out(folder: Path) -> None:
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [5, -1, 1 << 20, [9], None]}))
    source = HfSource(folder)
    source.close()
    spec = source.tokenizer()
    assert spec.eos_ids == (5, TOKENS.index("<|im_end|>"))
    Grammars(spec.json, spec.eos_ids)


def test_a_template_may_have_a_file_of_its_own(folder: Path) -> None:
    """Taken for a base model, a model that answers would go on with what it was asked."""
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    template = settings.pop("chat_template")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    source = HfSource(folder)
    source.close()
    assert source.tokenizer().chat_template == ""
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    assert source.tokenizer().chat_template == template


def test_a_template_that_is_no_text_is_named(folder: Path) -> None:
    (folder / "chat_template.jinja").write_bytes(b"\xff{{ messages }}")
    source = HfSource(folder)
    source.close()
    with pytest.raises(ArtifactError, match=r"chat_template\.jinja"):
        source.tokenizer()


def test_a_folder_without_the_tokenizers_file_says_how_to_get_it(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").touch()
    source = HfSource(folder)
    source.close()
    with pytest.raises(ArtifactError, match=r"has no tokenizer\.json: .*save_pretrained"):
        source.tokenizer()


def test_a_tokenizer_of_another_kind_is_named(folder: Path) -> None:
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "Unigram", "vocab": [["a", 0.0]]}}))
    source = HfSource(folder)
    source.close()
    with pytest.raises(ArtifactError, match="tokenizers of type Unigram are not supported"):
        source.tokenizer()


def test_weights_that_the_config_has_no_place_for_are_refused(folder: Path) -> None:
    """Half of a model's layers would answer, and nobody know."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    source = HfSource(folder)
    source.close()
    with pytest.raises(ArtifactError, match=r"has blk\.1\..*, which its architecture does not use"):
        plan_tensors(source.config, source.tensors)


def test_llama_3_1_stretches_long_waves_only() -> None:
    config = read_hf_config(
        {
            "model_type": "llama", "num_hidden_layers": 1, "hidden_size": 8192, "num_attention_heads": 64,
            "num_key_value_heads": 8, "intermediate_size": 28672, "vocab_size": 128256, "rope_theta": 500_000.0,
            "max_position_embeddings": 131072, "rope_scaling": {
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        }
    )  # fmt: skip
    factors = config.rope_factors
    assert len(factors) == 64
    assert factors[0] == 1.0
    assert factors[-1] == 8.0
    assert list(factors) == sorted(factors)


def test_what_a_config_of_gemma_leaves_out_is_its_familys() -> None:
    """As the files of google/gemma-3-4b-it and -27b-it, whose other values are in transformers' classes."""
    said = {"rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024}
    small = {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, **said}
    large = {"hidden_size": 5376, "intermediate_size": 21504, "num_hidden_layers": 62, "head_dim": 128, **said}
    large |= {"num_attention_heads": 32, "num_key_value_heads": 16, "query_pre_attn_scalar": 168}
    four, twenty_seven = (
        read_hf_config({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", **sizes}})
        for sizes in (small, large)
    )
    assert (four.heads, four.kv_heads, four.head_dim, four.vocabulary) == (8, 4, 256, 262_208)
    assert (four.rope_theta, four.local_rope_theta, four.rope_factors[0]) == (1_000_000.0, 10_000.0, 8.0)
    assert (four.window, four.window_pattern, four.tied, four.context_length) == (1024, 6, True, 131_072)
    assert four.attention_scale == 256**-0.5
    assert (twenty_seven.heads, twenty_seven.head_dim, twenty_seven.attention_scale) == (32, 128, 168**-0.5)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    second = read_hf_config({"model_type": "gemma2", **sizes})
    assert (second.attention_softcap, second.logit_softcap, second.window) == (50.0, 30.0, 4096)
    uncapped = read_hf_config({"model_type": "gemma2", **sizes, "attn_logit_softcapping": None, "sliding_window": None})
    assert (uncapped.attention_softcap, uncapped.window) == (0.0, 0)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"model_type": "bert"}, "not supported"),
        ({"hidden_size": "wide"}, "invalid|wrong"),
        ({"num_attention_heads": 0}, "wrong|invalid"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4}}, "yarn"),
        ({"num_hidden_layers": -1}, "is invalid"),
        ({"head_dim": 24}, "head_dim.*multiple of 16"),
        ({"head_dim": -16}, "invalid|wrong"),
        ({"num_key_value_heads": 3}, "invalid: 4 attention heads can't be divided evenly among 3 KV heads"),
        ({"rope_theta": 0}, "rope_theta.*greater than 0"),
        ({"rope_scaling": {"rope_type": "linear", "factor": -8}}, "rope_factors.*greater than 0"),
        ({"sliding_window": 4096}, "sliding window"),
        ({"hidden_act": "relu"}, "relu"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(change: dict, match: str) -> None:
    config = {
        "model_type": "llama", "num_hidden_layers": 1, "hidden_size": 64, "num_attention_heads": 4,
        "intermediate_size": 64, "vocab_size": 100, "max_position_embeddings": 128,
    }  # fmt: skip
    with pytest.raises(ArtifactError, match=match):
        read_hf_config(config | change)


def safetensors(path: Path, header: object, data: bytes = b"") -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 9]}},
        {"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": "all"}},
        {"a": 5},
        [1],
        {
            "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
            "b": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
        },
    ],
)
def test_hostile_headers_are_refused(tmp_path: Path, header: object) -> None:
    with pytest.raises(ArtifactError):
        SafetensorsFile(safetensors(tmp_path / "bad.safetensors", header, bytes(8)))


@pytest.mark.parametrize("data", [b"", b"\x08", b"\xff" * 8, b"\xff" * 100, (5).to_bytes(8, "little") + b"{"])
def test_files_that_are_none_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(data)
    with pytest.raises(ArtifactError):
        SafetensorsFile(path)


def test_damaged_files_read_or_fail_clearly(tmp_path: Path) -> None:
    draw = random.Random(2)
    header = {f"t{n}": {"dtype": "F32", "shape": [2, 2], "data_offsets": [16 * n, 16 * n + 16]} for n in range(4)}
    good = safetensors(tmp_path / "good.safetensors", header, bytes(64)).read_bytes()
    damaged = tmp_path / "damaged.safetensors"
    for _ in range(300):
        changed = bytearray(good)
        for _ in range(draw.randint(1, 4)):
            changed[draw.randrange(len(good))] = draw.randrange(256)
        damaged.write_bytes(changed[: draw.randint(0, len(changed))] if draw.random() < 0.3 else changed)
        with suppress(ArtifactError), SafetensorsFile(damaged) as file:
            for tensor in file.tensors.values():
                file.read_rows(tensor, 0, tensor.rows)
