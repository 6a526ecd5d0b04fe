"""Reads labelled prompts from JSON Lines: `prompt`, `domain` and, where known, `source` and `language`."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coe.platform.errors import ArtifactError
from coe.router.training import rows

# Domains that name only where a prompt was found, not its topic.
UNLABELLED = frozenset({"", "arena-hard"})


@dataclass(frozen=True, slots=True)
class LabelledPrompt:
    """`domain` is empty if the prompt has no label. `source` names the collection it comes from."""

    text: str
    domain: str
    source: str
    language: str = ""


def load(path: Path, unlabelled: frozenset[str] = UNLABELLED, *, every_domain: bool = False) -> list[LabelledPrompt]:
    """Reads prompts; those of the `unlabelled` domains get an empty domain. Raises ArtifactError naming a bad line.

    `every_domain`: a line without a domain is bad, too.
    """
    prompts = [_parse(row, number, path, unlabelled, every_domain) for number, row in rows.read(path)]
    if not prompts:
        raise ArtifactError(f"{path} contains no prompts", path=path)
    return prompts


def _parse(
    row: dict[str, Any], number: int, path: Path, unlabelled: frozenset[str], every_domain: bool
) -> LabelledPrompt:
    prompt = rows.text(row, "prompt", path, number)
    labels = {field: row.get(field) or "" for field in ("domain", "source", "language")}
    for field, value in labels.items():
        if not isinstance(value, str):
            raise rows.bad_line(path, number, f"the field {field!r} must be a string")
    if every_domain and not labels["domain"]:
        raise rows.bad_line(path, number, "the field 'domain' must be a string that is not empty")
    return LabelledPrompt(
        text=prompt,
        domain="" if labels["domain"] in unlabelled else labels["domain"],
        source=labels["source"] or path.stem,
        language=labels["language"],
    )


def distinct(prompts: Iterable[LabelledPrompt]) -> list[LabelledPrompt]:
    """The prompts without empty ones and duplicates; the first of several is kept."""
    seen: dict[str, LabelledPrompt] = {}
    for prompt in prompts:
        if prompt.text.strip():
            seen.setdefault(prompt.text, prompt)
    return list(seen.values())
