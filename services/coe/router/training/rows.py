"""Reads JSON Lines files: one object per line; blank lines are skipped."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from coe.platform.errors import ArtifactError


def read(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields each line's number and object. Raises ArtifactError naming file and line."""
    try:
        # Split only at line feeds: a text may contain other characters that Unicode counts as line breaks.
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ArtifactError(f"can't read {path}: {error.strerror}", path=path) from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise bad_line(path, number, str(error)) from None
        if not isinstance(row, dict):
            raise bad_line(path, number, "a JSON object is wanted")
        yield number, row


def text(row: dict[str, Any], field: str, path: Path, number: int) -> str:
    """The value of a required string field. Raises ArtifactError."""
    if not isinstance(value := row.get(field), str):
        raise bad_line(path, number, f"the field {field!r} must be a string")
    return value


def bad_line(path: Path, number: int, why: str) -> ArtifactError:
    return ArtifactError(f"{path}, line {number}: {why}", path=path, line=number)
