"""Inputs that once went wrong, and hostile ones we thought of: each ends in one clear error, or is read."""

import json
import os
import random
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from coe.platform.errors import CoEError
from fuzz.json_values import variant
from fuzz.readers import READERS
from fuzz.seeds import FAMILIES, write_seeds

CORPUS = Path(__file__).parent / "corpus"
CASES = [(target, path) for target in READERS for path in sorted((CORPUS / target).glob("*"))]
RANDOM_CASES, DOCUMENTS = 40, 60


@pytest.mark.parametrize(("target", "path"), CASES, ids=[f"{target}-{path.name}" for target, path in CASES])
def test_hostile_files_end_in_one_clear_error(target: str, path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "input"
    copy.write_bytes(path.read_bytes())
    with suppress(CoEError):
        READERS[target](copy)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("seeds")
    write_seeds(directory)
    return directory


@pytest.mark.parametrize("target", ["config", "manifest", "tokenizer"])
def test_documents_with_one_hostile_value_end_in_one_clear_error(target: str, seeds: Path, tmp_path: Path) -> None:
    draw = random.Random(2)
    for family in FAMILIES:
        document = json.loads((seeds / target / family).read_text())
        READERS[target](seeds / target / family)
        for _ in range(DOCUMENTS):
            path = tmp_path / "input"
            path.write_text(variant(document, draw))
            with suppress(CoEError):
                READERS[target](path)


def test_the_native_library_survives_any_arguments(tmp_path: Path) -> None:
    """The corpus and seeded noise, in a process of their own: a crash ends only that."""
    draw = random.Random(1)
    for number in range(RANDOM_CASES):
        (tmp_path / f"random-{number}").write_bytes(draw.randbytes(draw.randint(20, 400)))
    cases = [*sorted((CORPUS / "c_abi").glob("*")), *sorted(tmp_path.glob("random-*"))]
    command = [sys.executable, "-m", "fuzz.c_abi", *map(str, cases)]
    folders = os.pathsep.join((str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")))
    ended = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": folders}, capture_output=True, text=True, timeout=100, check=False
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
