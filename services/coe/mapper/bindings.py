"""Bindings of the mapping's experts to the hosted bundles that answer for them: `bindings.yaml` in COE_HOME."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import yaml

from coe.mapper.yaml_file import read_yaml
from coe.platform.errors import ArtifactError

FILE_NAME = "bindings.yaml"
HEADER = "# Which hosted bundle answers in place of each expert of the mapping.\n"


def read_bindings(path: Path) -> dict[str, str]:
    """Hosted bundle ids by mapped expert; empty when there is no file. Raises ArtifactError."""
    if not path.is_file():
        return {}
    data = read_yaml(path)
    data = {} if data is None else data
    if not isinstance(data, dict) or not all(isinstance(text, str) for pair in data.items() for text in pair):
        raise ArtifactError(f"{path.name} must map names of experts to ids of hosted bundles", path=path)
    return data


def write_bindings(path: Path, bindings: Mapping[str, str]) -> None:
    """Writes the file atomically: a reader sees either the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(HEADER + yaml.safe_dump(dict(bindings), allow_unicode=True), encoding="utf-8")
    partial.replace(path)


def without_effect(bindings: Mapping[str, str], mapped: Collection[str], hosted: Collection[str]) -> list[str]:
    """A message for each binding that has no effect: its expert is unknown, or its bundle is not hosted."""
    lines = []
    for name, bundle in bindings.items():
        if name not in mapped:
            lines.append(f"{name} is no expert of the mapping")
        elif bundle not in hosted:
            lines.append(f"{name} is to be answered by {bundle}, which is not hosted")
    return lines


def nobody(bindings: Mapping[str, str], mapped: Iterable[str], hosted: Collection[str]) -> list[str]:
    """A message if bundles are hosted but none answers for any mapped expert, so that one bundle answers everything."""
    if not hosted or any(bindings.get(name, name) in hosted for name in mapped):
        return []
    return [f"no expert of the mapping has a bundle, so {min(hosted)} answers whatever is asked"]


def spread(mapped: Iterable[str], hosted: Sequence[str]) -> dict[str, str]:
    """Binds each mapped expert to a bundle of its own, in the order given; bundles are shared when there are too few.

    An expert hosted under its own name keeps that bundle. Empty when nothing is hosted.
    """
    mapped = list(mapped)
    free = [bundle for bundle in hosted if bundle not in mapped] or list(hosted)
    bound: dict[str, str] = {}
    for name in mapped:
        if name in hosted:
            bound[name] = name
        elif free:
            strangers = sum(1 for other in bound if bound[other] != other)
            bound[name] = free[strangers % len(free)]
    return bound
