"""Closes JSON schemas: their objects may have only the properties that the schema names. Pure.

JSON Schema allows additional properties by default, and small experts invent them without end. Whatever matches a
closed schema also matches the original.
"""

from collections.abc import Iterator
from typing import Any

# Keywords that contain subschemas: by name, or alone or in a list. Data (enum, default) is not a schema.
_NAMED = ("properties", "patternProperties", "$defs", "definitions")
_WITHIN = ("items", "prefixItems", "additionalProperties", "contains", "anyOf", "allOf")
# A schema with one of these constrains its objects beyond the named properties.
_OPEN = {"additionalProperties", "minProperties", "patternProperties", "propertyNames", "unevaluatedProperties"}
# Closing these subschemas could change which values match, because they also say what must not match.
_APART = {"dependentSchemas", "if", "not", "oneOf"}


def close(schema: dict[str, Any]) -> None:
    """Closes the objects that name properties and say nothing about others.

    If several schemas apply to the same object, closing one could forbid what another names: then only the outermost
    schema is closed.
    """
    parts = list(parts_of(schema))
    shared = any(_schemas(part) > 1 for part in parts)
    for part in parts[:1] if shared else parts:
        if _schemas(part) == 1 and _names_all(part):
            part["additionalProperties"] = False


def parts_of(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schema, then its subschemas."""
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
    """How many schemas apply to the same object: its own properties, references, and combined schemas."""
    keys, all_of = part.keys(), part.get("allOf", [])
    made_of = len(all_of) if isinstance(all_of, list) else 1
    return bool(keys & {"properties", "required"}) + len(keys & {"$ref", "anyOf"}) + made_of + 2 * len(keys & _APART)


def _names_all(part: dict[str, Any]) -> bool:
    named, required = part.get("properties"), part.get("required", [])
    if part.keys() & _OPEN or not isinstance(named, dict) or not isinstance(required, list):
        return False
    return all(isinstance(name, str) and name in named for name in required)
