import os
import random
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from coe.experts.gguf_file import GgufFile
from coe.experts.gguf_source import GgufSource
from coe.experts.layout import plan_tensors
from coe.experts.safetensors_file import SafetensorsFile
from coe.platform.errors import ArtifactError
from support.gguf_files import TinyModel, write_tiny_gguf

CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus" / "gguf"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_tiny_gguf(tmp_path / "tiny.gguf", TinyModel())


def test_everything_reads_as_the_gguf_package_reads_it(path: Path) -> None:
    reference = GGUFReader(path)
    with GgufFile.open(path) as file:
        assert {name: field.contents() for name, field in reference.fields.items() if "GGUF." not in name} == dict(
            file.metadata
        )
        for tensor in reference.tensors:
            ours = file.tensors[tensor.name]
            assert (ours.kind, ours.cols) == (tensor.tensor_type.name.lower(), tensor.shape[0])
            rows = file.read_rows(ours, 0, ours.rows)
            assert rows.tobytes() == np.ascontiguousarray(tensor.data).tobytes()


def test_rows_can_be_read_apart(path: Path) -> None:
    with GgufFile.open(path) as file:
        tensor = file.tensors["token_embd.weight"]
        whole = file.read_rows(tensor, 0, tensor.rows)
        np.testing.assert_array_equal(file.read_rows(tensor, 5, 9), whole[5:9])


def test_every_truncation_is_a_clear_error(path: Path, tmp_path: Path) -> None:
    data = path.read_bytes()
    short = tmp_path / "short.gguf"
    for size in [*range(0, 400, 7), *range(400, len(data), len(data) // 60), len(data) - 64]:
        short.write_bytes(data[:size])
        with pytest.raises(ArtifactError):
            _read_all(short)


def test_damaged_files_read_or_fail_clearly(path: Path, tmp_path: Path) -> None:
    draw = random.Random(1)
    data = path.read_bytes()
    header = len(data) - sum(tensor.n_bytes for tensor in GGUFReader(path).tensors)
    damaged = tmp_path / "damaged.gguf"
    for _ in range(400):
        changed = bytearray(data)
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(header)
            changed[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
        damaged.write_bytes(changed)
        with suppress(ArtifactError):
            _read_all(damaged)


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    """Each of its arrays is small enough, all of them together are not; on disk the file is hardly there."""
    count = 1 << 22
    path = tmp_path / "many.gguf"
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, 0, 64))
        for number in range(64):
            file.write(struct.pack("<Q", 8) + b"array-%02d" % number + struct.pack("<IIQ", 9, 0, count))
            file.seek(count, os.SEEK_CUR)
        file.truncate()
    with pytest.raises(ArtifactError, match="header is too long"):
        GgufFile.open(path)


@pytest.mark.parametrize("case", sorted(CORPUS.glob("*.gguf")), ids=lambda case: case.stem)
def test_hostile_files_are_refused(case: Path) -> None:
    with pytest.raises(ArtifactError):
        _read_all(case)


@pytest.mark.parametrize("opened", [GgufFile.open, SafetensorsFile])
def test_a_pointer_of_git_lfs_is_known(tmp_path: Path, opened: Callable[[Path], object]) -> None:
    path = tmp_path / "model"
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 1234\n")
    with pytest.raises(ArtifactError, match="git lfs pull"):
        opened(path)


def _read_all(path: Path) -> None:
    source = GgufSource.open(path)
    try:
        source.tokenizer()
        for tensor in plan_tensors(source.config, source.tensors):
            for part in tensor.sources:
                source.read_rows(part, 0, part.rows)
    finally:
        source.close()
