from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from gguf import GGMLQuantizationType
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)

from coe.experts.locate import downloaded, locate, suggested_id
from coe.platform.errors import ArtifactError, Unavailable
from support.gguf_files import TinyModel, write_tiny_gguf
from support.hf_folders import write_hf_folder


@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    [
        ("Smollm2 135M 8k Lc100K Mix1 Ep2", 134515008, "smollm2-135m"),
        ("Qwen2-7B-Instruct", 7_600_000_000, "qwen2-7b"),
        ("Llama-3.1-70B-Instruct", 70_000_000_000, "llama-3.1-70b"),
        ("../../etc/passwd", 2_000_000, "etc-passwd-2m"),
        ("", 1_500_000_000, "1.5b"),
    ],
)
def test_ids_are_made_of_family_and_size(name: str, parameters: int, expected: str) -> None:
    assert suggested_id(name, parameters) == expected


def test_a_folder_and_a_file_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = TinyModel(kind=GGMLQuantizationType.F32)
    path = write_tiny_gguf(tmp_path / "tiny.gguf", model)
    folder = write_hf_folder(tmp_path / "folder", path, model)
    with locate(str(path)) as one, locate(str(folder)) as two:
        assert one.source.config.hidden == two.source.config.hidden
        assert (one.origin, two.origin) == ("tiny.gguf", "folder")
    monkeypatch.chdir(folder)
    with locate(".") as here:
        assert here.origin == "folder"


@pytest.mark.parametrize(
    ("files", "match"),
    [
        (["b.gguf", "a.gguf"], r"has no config\.json: name one of its GGUF files: a\.gguf, b\.gguf$"),
        (["adapter_config.json", "adapter_model.safetensors"], "is an adapter: merge it"),
        ([], r"has no config\.json$"),
    ],
)
def test_a_folder_that_is_no_model_says_what_to_do(tmp_path: Path, files: list[str], match: str) -> None:
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(ArtifactError, match=match), locate(str(tmp_path)):
        pass


def test_of_safetensors_the_folder_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ArtifactError, match="give its folder"), locate(str(tmp_path / "model.safetensors")):
        pass


def test_a_repository_of_gguf_files_wants_one_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    with (
        pytest.raises(ArtifactError, match=r"^hf:org/name has .* name one of them: hf:ORG/NAME/FILE"),
        locate("hf:org/name"),
    ):
        pass


def test_a_model_of_the_hub_is_fetched_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", TinyModel())
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda repository, file: str(path))
    with locate("hf:org/name/tiny.gguf") as located:
        assert located.origin == "hf:org/name/tiny.gguf"


def _raised(error: Exception, cause: Exception | None = None) -> Callable[..., str]:
    def fail(*_: object, **__: object) -> str:
        raise error from cause

    return fail


def test_a_hub_that_fails_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", _raised(ConnectionError("no\n route")))
    with pytest.raises(Unavailable, match=r"^could not download hf:org/name: no route$"):
        downloaded("org/name")
    with pytest.raises(ArtifactError, match="ORG/NAME"):
        downloaded("name")


def test_of_a_hub_out_of_reach_one_line_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    advised = LocalEntryNotFoundError("Got: ConnectError: Name not known\nPlease check your internet connection.")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", _raised(advised, OSError("Name not known")))
    with pytest.raises(Unavailable, match=r"^could not download hf:org/name: Name not known$"):
        downloaded("org/name")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (RepositoryNotFoundError, "the hub has no such model"),
        (GatedRepoError, "its terms must be accepted"),
        (RemoteEntryNotFoundError, "no such file"),
    ],
)
def test_what_the_hub_does_not_have_is_no_model(
    kind: type[HfHubHTTPError], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    response: Any = SimpleNamespace(headers={}, request=None)
    error = kind("404 Client Error.\n\nNot Found for url", response=response)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", _raised(error))
    with pytest.raises(ArtifactError, match=rf"^could not download hf:org/name/a\.gguf: .*{said}"):
        downloaded("org/name/a.gguf")
