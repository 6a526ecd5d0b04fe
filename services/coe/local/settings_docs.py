"""Generates docs/settings.md from the settings classes: `python -m coe.local.settings_docs > docs/settings.md`.

The description of a setting is the comment above its field.
"""

import ast
import re
import sys
from inspect import getsource
from pathlib import Path
from textwrap import dedent
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from coe.expert_worker.settings import WorkerSettings
from coe.gateway.settings import GatewaySettings
from coe.local.options import StackOptions
from coe.mapper.settings import MapperSettings
from coe.memory_tier_manager.settings import TiersSettings
from coe.platform.sasl import SaslSettings
from coe.platform.settings import CoreSettings, GrpcSettings, Settings
from coe.platform.tls import TlsSettings
from coe.router.settings import RouterSettings

_HEAD = """# Settings

This page is generated from the settings classes (`python -m coe.local.settings_docs`).

Settings are environment variables, read once at startup. An invalid value stops the process with a line that names the
setting. A misspelt name has no effect; `coe doctor` reports it. An empty path counts as unset. Names and meanings are
stable within a major version ([releases and compatibility](operations/compatibility.md)); defaults may improve.
`coe up` sets its services' addresses, ports, names and HBM size itself, regardless of the environment.
"""
_PARTS: tuple[tuple[str, type[Settings]], ...] = (
    ("Every process, and the `coe` command", CoreSettings),
    ("gRPC server of every service", GrpcSettings),
    ("TLS certificates (PEM files) of every process", TlsSettings),
    ("Authentication to the Kafka brokers", SaslSettings),
    ("Router", RouterSettings),
    ("Mapper", MapperSettings),
    ("Expert worker", WorkerSettings),
    ("Memory-tier manager", TiersSettings),
    ("Gateway", GatewaySettings),
    ("`coe up` and `coe demo`", StackOptions),
)
_TAIL = """
## Other variables

| name | description |
|---|---|
| `COE_NATIVE_LIBRARY` | Path of `libcoe_native.so`, instead of the installed one. |
| `COE_NATIVE_ISA` | `portable`, `avx2`, `avx512` or `amx`: the newest instruction set that kernels may use. |
| `COE_NATIVE_EXACT` | `1`: all matrix products are exact, for comparisons with other runtimes. |
| `COE_GATEWAY`, `COE_GATEWAY_HTTP` | The gateway that the load generator uses if it does not start its own stack. |
| `COE_API_KEY` | API key that `coe chat` and the load generator send to the gateway. |
"""
_SIGNS = {Ge: ("at least", "ge"), Gt: ("above", "gt"), Le: ("at most", "le"), Lt: ("below", "lt")}
_KINDS: dict[Any, str] = {
    str: "text",
    SecretStr: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Path: "path",
}
# Defaults that depend on the process.
_COMPUTED = {"COE_WORKER_THREADS": "processors it may use"}
_UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def settings(kind: type[Settings]) -> list[tuple[str, FieldInfo, str]]:
    """The name, definition and description of each setting of a class."""
    prefix, meanings = kind.model_config["env_prefix"], comments(dedent(getsource(kind)))
    return [(f"{prefix}{name}".upper(), field, meanings.get(name, "")) for name, field in kind.model_fields.items()]


def names() -> set[str]:
    """The names of all settings, including those outside the classes."""
    return {name for _, kind in _PARTS for name, _, _ in settings(kind)} | set(re.findall(r"`(COE_\w+)`", _TAIL))


def comments(source: str) -> dict[str, str]:
    """The comment directly above each field of the class."""
    lines = source.splitlines()
    (kind,) = ast.parse(source).body
    assert isinstance(kind, ast.ClassDef)
    found = {}
    for node in kind.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            first = at = node.lineno - 1
            while lines[first - 1].lstrip().startswith("#"):
                first -= 1
            found[node.target.id] = " ".join(line.strip().removeprefix("#").strip() for line in lines[first:at])
    return found


def values(field: FieldInfo) -> str:
    """The values that the setting accepts."""
    kinds = [kind for kind in _alternatives(field.annotation) if kind is not NoneType]
    bounds = [
        f"{word} {_number(getattr(limit, name))}"
        for limit in field.metadata
        for known, (word, name) in _SIGNS.items()
        if isinstance(limit, known)
    ]
    return ", ".join([*map(_kind, kinds), *bounds])


def default(name: str, field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if name in _COMPUTED:
        return _COMPUTED[name]
    if value is None or value in ("", [], frozenset()):
        return "none"
    if isinstance(value, Path):
        return f"`~/{value.relative_to(Path.home())}`" if value.is_relative_to(Path.home()) else f"`{value}`"
    if name.endswith("_BYTES") and isinstance(value, int):
        size, unit = next((size, unit) for size, unit in _UNITS if value % size == 0)
        return f"`{value}` ({value // size} {unit})"
    return f"`{str(value).lower() if isinstance(value, bool) else _number(value)}`"


def markdown() -> str:
    page = [_HEAD]
    for title, kind in _PARTS:
        page.append(f"\n## {title}\n\n| name | values | default | description |\n|---|---|---|---|\n")
        page += [
            f"| `{name}` | {values(field)} | {default(name, field)} | {meaning} |\n"
            for name, field, meaning in settings(kind)
        ]
    return "".join(page) + _TAIL


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _kind(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind) if value)
    return _KINDS.get(kind, "JSON list")


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.stdout.write(markdown())
