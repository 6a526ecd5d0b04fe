"""Encodes and decodes messages by content type: protobuf, or protobuf's JSON form."""

import json
from collections.abc import Iterable
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from coe.platform.bus.api import Outgoing, Record
from coe.platform.errors import UndecodableMessage

JSON = "application/json"
PROTOBUF = "application/protobuf"
# The content type of a prompt's answer. Set by the producer, and carried from hop to hop.
ANSWER_HEADER = "coe-answer-type"
_PROTOBUF_NAMES = frozenset({"", PROTOBUF, "application/x-protobuf", "application/octet-stream"})

M = TypeVar("M", bound=Message)


def decode(record: Record, kind: type[M]) -> M:
    """Decodes the record's value. Raises UndecodableMessage. Ignores unknown fields, of JSON as of protobuf."""
    content_type = _media_type(record, "content-type")
    name = kind.DESCRIPTOR.name
    message = kind()
    try:
        if content_type == JSON:
            text = record.value.decode("utf-8")
            _check_objects(json.loads(text), kind.DESCRIPTOR.fields, "the message")
            json_format.Parse(text, message, ignore_unknown_fields=True)
        elif content_type in _PROTOBUF_NAMES:
            message.ParseFromString(record.value)
        else:
            raise UndecodableMessage(
                f"content type {content_type[:100]!r} is neither {JSON} nor {PROTOBUF}", expected=name
            )
    except (json_format.ParseError, ValueError, RecursionError) as error:
        raise UndecodableMessage(f"not the JSON form of {name}: {str(error)[:200]}", expected=name) from None
    except DecodeError:
        hint = "" if content_type else f" (JSON has the header content-type: {JSON})"
        raise UndecodableMessage(f"not the bytes of a {name}{hint}", expected=name) from None
    return message


def _check_objects(value: object, fields: Iterable[Any], where: str) -> None:
    """Raises ValueError if a message field is not a JSON object.

    json_format accepts a string or list in place of a message and takes its contents for unknown fields.
    """
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be a JSON object")
    for field in fields:
        if field.message_type is None:
            continue
        for name in {field.name, field.json_name} & value.keys():
            inner = value[name]
            for one in inner if field.is_repeated and isinstance(inner, list) else [inner]:
                if one is not None:
                    _check_objects(one, field.message_type.fields, name)


def is_json(record: Record) -> bool:
    return _media_type(record, "content-type") == JSON


def encode(outgoing: Outgoing) -> bytes:
    """Encodes the message. JSON uses the original field names and includes fields that are zero or empty."""
    if not outgoing.as_json:
        return outgoing.message.SerializeToString()
    text = json_format.MessageToJson(
        outgoing.message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        indent=None,
        ensure_ascii=False,
    )
    return text.encode()


def answered_in_json(record: Record) -> bool:
    """Whether the record's prompt is answered in JSON: as its header asks, otherwise in the form of the record itself.

    A header that names neither form counts as absent.
    """
    asked = _media_type(record, ANSWER_HEADER)
    return asked == JSON if asked in (JSON, PROTOBUF) else is_json(record)


def _media_type(record: Record, header: str) -> str:
    return (record.header(header) or "").partition(";")[0].strip().lower()
