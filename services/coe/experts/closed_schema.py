"""JSON schemas whose objects have the properties that are named, and no others. Pure.

By itself an object of a JSON schema may have any others too. Small experts, which may write of them without end, do.
What is of a schema so closed is of the schema itself.
"""

from collections.abc import Iterator
from typing import Any

# Where schemas stand within one: by name, and alone or in a list. What is data (enum, default) is none.
_NAMED = ("properties", "patternProperties", "$defs", "definitions")
_WITHIN = ("items", "prefixItems", "additionalProperties", "contains", "anyOf", "allOf")
# An object whose schema has one of these is described in more than what its properties are.
_OPEN = {"additionalProperties", "minProperties", "patternProperties", "propertyNames", "unevaluatedProperties"}
# What is of one of these schemas must not be of another: of those as they are, not closed.
_APART = {"dependentSchemas", "if", "not", "oneOf"}


def close(schema: dict[str, Any]) -> None:
    """Closes the objects that name properties and do not speak of others.

    Where some are of several schemas at once, one of which would forbid what another one names, the outermost alone.
    """
    parts = list(parts_of(schema))
    shared = any(_schemas(part) > 1 for part in parts)
    for part in parts[:1] if shared else parts:
        if _schemas(part) == 1 and _names_all(part):
            part["additionalProperties"] = False


def parts_of(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schema, then those within it."""
    left: list[Any] = [schema]
    while left:
        part = left.pop()
        if isinstance(part, list):
            left.extend(part)
        elif isinstance(part, dict):
            yield part
            left.extend(part.get(name) for name in _WITHIN)
            named = (part.get(name) for name in _NAMED)
            left.extend(one for schemas in named if isinstance(schemas, dict) for one in schemas.values())


def _schemas(part: dict[str, Any]) -> int:
    """Of how many an object of this one is: its own properties, what it refers to, what it is made of."""
    keys, all_of = part.keys(), part.get("allOf", [])
    made_of = len(all_of) if isinstance(all_of, list) else 1
    return bool(keys & {"properties", "required"}) + len(keys & {"$ref", "anyOf"}) + made_of + 2 * len(keys & _APART)


def _names_all(part: dict[str, Any]) -> bool:
    named, required = part.get("properties"), part.get("required", [])
    if part.keys() & _OPEN or not isinstance(named, dict) or not isinstance(required, list):
        return False
    return all(isinstance(name, str) and name in named for name in required)
