"""Labelled prompts from JSON lines: `prompt`, `domain`, and where known `source` and `language`."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from coe.platform.errors import ArtifactError

# Domains that only say where a prompt was found.
UNLABELLED = frozenset({"", "arena-hard"})


@dataclass(frozen=True, slots=True)
class LabelledPrompt:
    """`domain` is empty when nobody labelled the prompt. `source` names the collection it comes from."""

    text: str
    domain: str
    source: str
    language: str = ""


def load(path: Path, unlabelled: frozenset[str] = UNLABELLED) -> list[LabelledPrompt]:
    """Prompts of the `unlabelled` domains get none. Raises ArtifactError that names the line which can't be read."""
    prompts = []
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    prompts.append(_parse(line, number, path, unlabelled))
    except OSError as error:
        raise ArtifactError(f"can't read {path}: {error.strerror}", path=path) from error
    if not prompts:
        raise ArtifactError(f"{path} holds no prompts", path=path)
    return prompts


def _parse(line: str, number: int, path: Path, unlabelled: frozenset[str]) -> LabelledPrompt:
    try:
        row = json.loads(line)
        domain = str(row.get("domain") or "")
        return LabelledPrompt(
            text=str(row["prompt"]),
            domain="" if domain in unlabelled else domain,
            source=str(row.get("source") or path.stem),
            language=str(row.get("language") or ""),
        )
    except (ValueError, KeyError, AttributeError) as error:
        raise ArtifactError(f"line {number} of {path.name} is no labelled prompt: {error!r}", line=number) from error


def distinct(prompts: Iterable[LabelledPrompt]) -> list[LabelledPrompt]:
    """Without empty prompts and repetitions; the first one stays."""
    seen: dict[str, LabelledPrompt] = {}
    for prompt in prompts:
        if prompt.text.strip():
            seen.setdefault(prompt.text, prompt)
    return list(seen.values())
