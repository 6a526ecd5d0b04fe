"""The mapping file: human-readable YAML, written by `coe train mapping` and read by the mapper."""

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml

from coe.mapper.mapping import Cell, Mapping, Plan
from coe.mapper.pool import parse_expert
from coe.mapper.solve import Limits
from coe.mapper.yaml_file import parse_yaml
from coe.platform.errors import ArtifactError

FORMAT = 1
PACKAGED = Path(__file__).parent / "artifacts" / "mapping.yaml"
HEADER = """\
# Which expert answers which category, under each named budget. Solved by `coe train mapping`.
# quality: expected score, 0 to 1, and the number of outcomes behind it. Parameters in billions.
"""


def locate(home: Path) -> Path:
    """Path of the mapping trained on this machine if there is one, else of the packaged one."""
    trained = home / "artifacts" / "mapping.yaml"
    return trained if trained.is_file() else PACKAGED


def load_mapping(path: Path) -> Mapping:
    """Reads a mapping file. Raises ArtifactError when it is missing, corrupt or of another format."""
    try:
        return parse_mapping(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"The mapping file can't be read: {error}", path=path) from error
    except ArtifactError as error:
        raise ArtifactError(f"{path.name}: {error.message}", **{**error.details, "path": path}) from error


def parse_mapping(text: str) -> Mapping:
    """Parses a mapping file's text. Raises ArtifactError.

    The version is a digest of the contents; it is computed for a file without one.
    """
    data = parse_yaml(text)
    if not isinstance(data, dict):
        raise ArtifactError("not a mapping file")
    if data.get("format") != FORMAT:
        raise ArtifactError(f"format {data.get('format')!r}, this version reads format {FORMAT}")
    try:
        mapping = _build(data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"a field is missing or malformed: {error!r}") from error
    if mapping.version != version_of(data):
        raise ArtifactError("the contents don't match the version: damaged, or edited by hand (then delete that line)")
    return mapping


def dump_mapping(mapping: Mapping, source: dict[str, object]) -> str:
    """The file's text. `source` records what the mapping was made from; the version is a digest of the contents."""
    data = _data(mapping, source)
    data["version"] = version_of(data)
    return HEADER + yaml.dump(data, sort_keys=False, allow_unicode=True, width=120, Dumper=_Dumper)


def version_of(data: dict[str, Any]) -> str:
    """Twelve hex digits of a digest of the contents, ignoring comments and layout."""
    rest = {key: value for key, value in data.items() if key != "version"}
    text = json.dumps(rest, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _data(mapping: Mapping, source: dict[str, object]) -> dict[str, Any]:
    names = [expert.name for expert in mapping.pool]
    return {
        "format": FORMAT,
        "version": mapping.version,
        "source": source,
        "min_support": mapping.min_support,
        "refiner": mapping.refiner,
        "pool": {
            expert.name: _Flow(active_params_b=expert.active_params_b, total_params_b=expert.total_params_b)
            for expert in mapping.pool
        },
        "categories": {
            cell.name: {
                "share": cell.share,
                **({"pooled": "no outcomes of this category: figures are over all outcomes"} if cell.pooled else {}),
                "quality": {
                    name: _Flow(expected=quality, outcomes=support)
                    for name, quality, support in zip(names, cell.quality, cell.support, strict=True)
                },
            }
            for cell in mapping.cells
        },
        "budgets": {
            name: {
                "active_params_b": plan.limits.active_params_b,
                "hosted_params_b": plan.limits.hosted_params_b,
                "penalty": plan.limits.penalty,
                "expected": _Flow(
                    quality=round(plan.quality, 4),
                    active_params_b=round(plan.active_params_b, 2),
                    hosted_params_b=round(plan.hosted_params_b, 2),
                ),
                "experts": plan.experts,
            }
            for name, plan in mapping.budgets.items()
        },
    }


def _build(data: dict[str, Any]) -> Mapping:
    pool = tuple(parse_expert(name, value) for name, value in data["pool"].items())
    cells = []
    for name, entry in data["categories"].items():
        rows = [entry["quality"][expert.name] for expert in pool]
        quality = tuple(float(row["expected"]) for row in rows)
        if not all(0 <= value <= 1 for value in (*quality, entry["share"])):
            raise ValueError(f"qualities and share of {name} must be from 0 to 1")
        support = tuple(int(row["outcomes"]) for row in rows)
        cells.append(Cell(name, quality, support, float(entry["share"]), "pooled" in entry))
    budgets = {
        name: Plan(
            Limits(_billions(entry["active_params_b"]), _billions(entry["hosted_params_b"]), float(entry["penalty"])),
            dict(entry["experts"]),
            float(entry["expected"]["quality"]),
            float(entry["expected"]["active_params_b"]),
            float(entry["expected"]["hosted_params_b"]),
        )
        for name, entry in data["budgets"].items()
    }
    return Mapping(
        str(data.get("version") or version_of(data)),
        pool,
        tuple(cells),
        int(data["min_support"]),
        budgets,
        str(data["refiner"]),
    )


def _billions(limit: float | None) -> float | None:
    if limit is not None and not limit > 0:
        raise ValueError(f"a limit must be a positive number of billions, not {limit}")
    return limit


class _Flow(dict[str, float]):
    """A mapping written on one line (YAML flow style)."""


class _Dumper(yaml.SafeDumper):
    pass


def _represent_flow(dumper: yaml.SafeDumper, value: _Flow) -> yaml.MappingNode:
    return dumper.represent_mapping("tag:yaml.org,2002:map", value, flow_style=True)


_Dumper.add_representer(_Flow, _represent_flow)
