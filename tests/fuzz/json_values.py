"""JSON documents with one value changed to a hostile one."""

import copy
import json
import random
from typing import Any

HOSTILE: tuple[Any, ...] = (
    None, True, -1, 0, 1, 3, 1 << 20, 1 << 31, 1 << 63, 10**400, 0.5, -0.5, 1e308, float("nan"), float("inf"),
    "", "x", "\x00", "\ud800", "9" * 5000, "../..", [], {}, [[]], [None], ["x"], [1 << 63], {"x": 1},
)  # fmt: skip
_GONE = object()
Path_ = tuple[str | int, ...]


def variant(document: Any, draw: random.Random) -> str:
    """One value replaced by a hostile one, or left out. Long lists and objects don't crowd out the rest."""
    path: Path_ = ()
    at = document
    while isinstance(at, dict | list) and at and (not path or draw.random() < 0.8):
        key = draw.choice(list(at) if isinstance(at, dict) else range(len(at)))
        path, at = (*path, key), at[key]
    return json.dumps(_with(document, path, draw.choice((*HOSTILE, _GONE))))


def _with(document: Any, path: Path_, value: Any) -> Any:
    changed = copy.deepcopy(document)
    *parents, last = path
    at = changed
    for key in parents:
        at = at[key]
    if value is _GONE:
        del at[last]
    else:
        at[last] = value
    return changed
