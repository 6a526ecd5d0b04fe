"""Objects have what their schema names, unless it says more, or another schema has its say."""

import json
from copy import deepcopy
from typing import Any

import pytest

from coe.experts.closed_schema import close

NAMED: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
CLOSED = NAMED | {"additionalProperties": False}


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    own = deepcopy(schema)
    close(own)
    return own


@pytest.mark.parametrize(
    ("outer", "within"),
    [
        ("{0}", NAMED),
        ('{"items": {0}}', NAMED),
        ('{"prefixItems": [{"type": "string"}, {0}]}', NAMED),
        ('{"additionalProperties": {0}}', NAMED),
        ('{"anyOf": [{0}, {"type": "null"}]}', NAMED),
        ('{"$defs": {"n": {0}}, "items": {"$ref": "#/$defs/n"}}', NAMED),
        ('{"$defs": {"n": {0}}, "items": {"allOf": [{"$ref": "#/$defs/n"}]}}', NAMED),
    ],
)
def test_wherever_an_object_stands_it_has_what_is_named(outer: str, within: dict[str, Any]) -> None:
    before, after = (json.loads(outer.replace("{0}", json.dumps(one))) for one in (within, CLOSED))
    assert closed(before) == after


def test_the_objects_within_an_object_too() -> None:
    assert closed({"properties": {"b": NAMED}}) == {"properties": {"b": CLOSED}, "additionalProperties": False}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object"},
        {"properties": 3},
        {"properties": {"a": True}, "required": "a"},
        {"properties": {"a": True}, "required": ["b"]},
        {"properties": {"a": True}, "required": [[]]},
        {"properties": {"a": True}, "additionalProperties": True},
        {"properties": {"a": True}, "patternProperties": {"^b": True}},
        {"properties": {"a": True}, "minProperties": 2},
        {"enum": [{"properties": {}}], "default": {"properties": {}}},
    ],
)
def test_one_that_says_more_or_names_nothing_stays_open(schema: dict[str, Any]) -> None:
    assert closed(schema) == schema


@pytest.mark.parametrize(
    "shared",
    [
        {"allOf": [NAMED, {"properties": {"b": True}}]},
        {"oneOf": [NAMED, {"properties": {"b": True}}]},
        {"$ref": "#/$defs/n", "properties": {"b": True}},
        {"$ref": "#/$defs/n", "required": ["b"]},
        {"properties": {"b": True}, "anyOf": [NAMED, {"$ref": "#/$defs/n"}]},
    ],
)
def test_where_objects_are_of_several_schemas_the_outermost_alone_is_closed(shared: dict[str, Any]) -> None:
    within = {"$defs": {"n": NAMED}, "properties": {"c": shared, "d": NAMED}}
    assert closed(within) == within | {"additionalProperties": False}
    outermost = {"$defs": {"n": NAMED}} | shared
    assert closed(outermost) == outermost
