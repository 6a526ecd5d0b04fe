from pathlib import Path

import huggingface_hub
import pytest
from gguf import GGMLQuantizationType

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


def test_a_folder_and_a_file_are_told_apart(tmp_path: Path) -> None:
    model = TinyModel(kind=GGMLQuantizationType.F32)
    path = write_tiny_gguf(tmp_path / "tiny.gguf", model)
    folder = write_hf_folder(tmp_path / "folder", path, model)
    with locate(str(path)) as one, locate(str(folder)) as two:
        assert one.source.config.hidden == two.source.config.hidden
        assert (one.origin, two.origin) == ("tiny.gguf", "folder")


def test_a_model_of_the_hub_is_fetched_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", TinyModel())
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda repository, file: str(path))
    with locate("hf:org/name/tiny.gguf") as located:
        assert located.origin == "hf:org/name/tiny.gguf"


def test_a_hub_that_fails_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(repository: str, **options: object) -> str:
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(Unavailable, match="no route"):
        downloaded("org/name")
    with pytest.raises(ArtifactError, match="ORG/NAME"):
        downloaded("name")
