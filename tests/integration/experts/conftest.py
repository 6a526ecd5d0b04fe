"""A small model to import."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from coe.experts.gguf_source import GgufSource
from integration.experts.tiny_import import MODEL
from support.gguf_files import write_tiny_gguf


@pytest.fixture
def source(tmp_path: Path) -> Iterator[GgufSource]:
    opened = GgufSource.open(write_tiny_gguf(tmp_path / "tiny.gguf", MODEL))
    yield opened
    opened.close()


@pytest.fixture
def another(tmp_path: Path) -> Iterator[GgufSource]:
    """A fine-tune: the same tensors at the same places."""
    opened = GgufSource.open(write_tiny_gguf(tmp_path / "other.gguf", replace(MODEL, seed=1)))
    yield opened
    opened.close()


@pytest.fixture
def experts(tmp_path: Path) -> Path:
    return tmp_path / "experts"
