"""A model in GGUF form: one file, or the parts that `llama-gguf-split` made of it.

Large models are published in parts, NAME-00001-of-00003.gguf and so on. The first part holds the metadata, each part
its own share of the tensors.
"""

import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import numpy as np

from coe.experts.gguf_file import GgufFile, GgufTensor, Value
from coe.platform.errors import ArtifactError

_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)


def part_names(name: str) -> list[str]:
    """All parts of the model that `name` is a part of, in order; of a whole model only `name` itself."""
    part = _PART.fullmatch(name)
    if part is None or not 1 <= int(part["number"]) <= int(part["count"]):
        return [name]
    return [f"{part['stem']}-{number:05}-of-{part['count']}.gguf" for number in range(1, int(part["count"]) + 1)]


class GgufModel:
    """`path` and `metadata` are the first part's, `tensors` those of all parts."""

    def __init__(self, files: list[GgufFile]) -> None:
        self.path = files[0].path
        self.metadata: Mapping[str, Value] = files[0].metadata
        self._files = files
        self._file_of: dict[str, GgufFile] = {}
        self.tensors: dict[str, GgufTensor] = {}
        for number, file in enumerate(files):
            self._add(file, number)
        if (expected := self.metadata.get("split.tensors.count", len(self.tensors))) != len(self.tensors):
            raise ArtifactError(f"{self.name} should have {expected} tensors; its parts have {len(self.tensors)}")

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens the whole model, whichever of its parts `path` is.

        Raises ArtifactError for a bad file, a missing part, and parts that do not belong together.
        """
        paths = [path.with_name(name) for name in part_names(path.name)]
        if missing := next((each for each in paths if each != path and not each.exists()), None):
            raise ArtifactError(f"{path.name} is one of {len(paths)} parts of a model, and {missing.name} is missing")
        with ExitStack() as opened:
            model = cls([opened.enter_context(GgufFile.open(each)) for each in paths])
            opened.pop_all()
        return model

    @property
    def name(self) -> str:
        """The file's name without its suffix and the number of its part."""
        part = _PART.fullmatch(self.path.name)
        return part["stem"] if part else self.path.stem

    @property
    def nbytes(self) -> int:
        return sum(file.path.stat().st_size for file in self._files)

    def read_rows(self, tensor: GgufTensor, start: int, stop: int) -> np.ndarray:
        """Rows [start, stop) as uint8 [stop - start, row_bytes]."""
        return self._file_of[tensor.name].read_rows(tensor, start, stop)

    def close(self) -> None:
        for file in self._files:
            file.close()

    def _add(self, file: GgufFile, number: int) -> None:
        claimed, count = file.metadata.get("split.no", 0), file.metadata.get("split.count", 1)
        if count != len(self._files) or claimed != number:
            raise ArtifactError(
                f"{file.path.name} says that it is part {_counted(claimed)} of {count}: "
                "parts of a model must keep their names, NAME-00001-of-00003.gguf and so on",
                path=file.path,
            )
        for name, tensor in file.tensors.items():
            if name in self._file_of:
                raise ArtifactError(f"tensor {name!r} is in two parts of {self.name}", path=file.path)
            self._file_of[name] = file
            self.tensors[name] = tensor


def _counted(number: Value) -> Value:
    """From 1, as the files' names count."""
    return number + 1 if isinstance(number, int) else number
