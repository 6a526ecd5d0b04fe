"""Fuzzes the file readers with atheris: `python fuzz_readers.py gguf|safetensors corpus/` (`pip install atheris`).

A reader may raise ArtifactError, nothing else, and must not take memory that the file does not have.
"""

import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports():
    from coe.experts.gguf_source import GgufSource
    from coe.experts.safetensors_file import SafetensorsFile
from coe.platform.errors import ArtifactError


def read_gguf(path: Path) -> None:
    source = GgufSource.open(path)
    source.close()


def read_safetensors(path: Path) -> None:
    with SafetensorsFile(path) as file:
        for tensor in file.tensors.values():
            file.read_rows(tensor, 0, tensor.rows)


READERS = {"gguf": read_gguf, "safetensors": read_safetensors}


def main() -> None:
    read = READERS[sys.argv.pop(1)]
    with tempfile.NamedTemporaryFile() as file:
        path = Path(file.name)

        def one_input(data: bytes) -> None:
            path.write_bytes(data)
            with suppress(ArtifactError):
                read(path)

        atheris.Setup(sys.argv, one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
