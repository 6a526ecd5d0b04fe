from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from gguf import GGUFWriter

from coe.experts.gguf_source import GgufSource
from coe.experts.locate import downloaded
from coe.platform.errors import ArtifactError
from support.gguf_files import TinyModel, write_tiny_gguf

MODEL = TinyModel(layers=1)


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    (tmp_path / "parts").mkdir()
    write_tiny_gguf(tmp_path / "parts" / "tiny.gguf", MODEL, tensors_per_part=5)
    paths = sorted((tmp_path / "parts").iterdir())
    assert [path.name for path in paths] == [f"tiny-0000{part}-of-00003.gguf" for part in (1, 2, 3)]
    return paths


@pytest.mark.parametrize("named", [0, 1, 2])
def test_a_model_in_parts_is_the_whole_model_whichever_part_is_named(
    tmp_path: Path, parts: list[Path], named: int
) -> None:
    whole = GgufSource.open(write_tiny_gguf(tmp_path / "tiny.gguf", MODEL))
    split = GgufSource.open(parts[named])
    assert split.path == parts[0]
    assert split.config == whole.config
    assert split.tensors == whole.tensors
    assert split.tokenizer() == whole.tokenizer()
    assert (split.card.name, split.card.parameters) == (whole.card.name, whole.card.parameters)
    for name, tensor in whole.tensors.items():
        assert (split.read_rows(tensor, 0, tensor.rows) == whole.read_rows(tensor, 0, tensor.rows)).all(), name
    whole.close()
    split.close()


def test_models_in_parts_that_differ_in_one_part_are_told_apart(tmp_path: Path, parts: list[Path]) -> None:
    first = GgufSource.open(parts[0])
    (tmp_path / "other").mkdir()
    write_tiny_gguf(tmp_path / "other" / "tiny.gguf", TinyModel(layers=1, seed=1), tensors_per_part=5)
    (tmp_path / "other" / parts[2].name).replace(parts[2])
    second = GgufSource.open(parts[0])
    assert first.card.fingerprint != second.card.fingerprint
    first.close()
    second.close()


def renamed(parts: list[Path]) -> Path:
    return parts[1].rename(parts[1].with_name("tiny.gguf"))


def beyond_the_last(parts: list[Path]) -> Path:
    return parts[1].rename(parts[1].with_name("tiny-00004-of-00003.gguf"))


def of_none(parts: list[Path]) -> Path:
    return parts[1].rename(parts[1].with_name("tiny-00001-of-00000.gguf"))


def removed(parts: list[Path]) -> Path:
    parts[2].unlink()
    return parts[0]


def exchanged(parts: list[Path]) -> Path:
    parts[2].write_bytes(parts[1].read_bytes())
    return parts[0]


def write_third(path: Path, *tensors: str) -> None:
    writer = GGUFWriter(path, "llama")
    for key, value in {"split.no": 2, "split.count": 3}.items():
        writer.add_uint16(key, value)
    for name in tensors:
        writer.add_tensor(name, np.zeros((1, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def emptied(parts: list[Path]) -> Path:
    write_third(parts[2])
    return parts[0]


def doubled(parts: list[Path]) -> Path:
    write_third(parts[2], "output_norm.weight", "token_embd.weight")
    return parts[0]


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (renamed, r"tiny\.gguf says that it is part 2 of 3: parts of a model must keep their names"),
        (beyond_the_last, r"tiny-00004-of-00003\.gguf says that it is part 2 of 3"),
        (of_none, r"tiny-00001-of-00000\.gguf says that it is part 2 of 3"),
        (removed, r"is one of 3 parts of a model, and tiny-00003-of-00003\.gguf is missing"),
        (exchanged, r"tiny-00003-of-00003\.gguf says that it is part 2 of 3"),
        (emptied, r"tiny should have \d+ tensors; its parts have 10"),
        (doubled, r"tensor 'token_embd\.weight' is in two parts of tiny"),
    ],
)
def test_parts_that_make_no_model_are_refused(
    parts: list[Path], spoil: Callable[[list[Path]], Path], match: str
) -> None:
    with pytest.raises(ArtifactError, match=match):
        GgufSource.open(spoil(parts))


def test_all_parts_of_a_model_of_the_hub_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []

    def fetch(repository: str, file: str) -> str:
        fetched.append(f"{repository}/{file}")
        return f"/hub/{file}"

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    assert downloaded("org/name/q4/m-00002-of-00002.gguf") == Path("/hub/q4/m-00001-of-00002.gguf")
    assert fetched == ["org/name/q4/m-00001-of-00002.gguf", "org/name/q4/m-00002-of-00002.gguf"]
