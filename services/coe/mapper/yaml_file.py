"""Reads hand-written YAML and reports any error in one line."""

from pathlib import Path
from typing import Any

import yaml

from coe.platform.errors import ArtifactError


def read_yaml(path: Path) -> Any:
    """Reads a YAML file. Raises ArtifactError naming the file."""
    try:
        return parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(f"can't read {path}: {error.strerror}", path=path) from error
    except (UnicodeDecodeError, ArtifactError) as error:
        raise ArtifactError(f"{path.name} can't be read: {error}", path=path) from error


def parse_yaml(text: str) -> Any:
    """Parses YAML. Raises ArtifactError."""
    try:
        return yaml.safe_load(text)
    # ValueError: an impossible date. RecursionError: brackets nested too deeply.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ArtifactError(f"not YAML: {problem}" + (f", line {mark.line + 1}" if mark else "")) from error
