"""Message bytes to protobuf, after their content type: protobuf, or protobuf's JSON form."""

from typing import TypeVar

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from coe.platform.bus.api import Record
from coe.platform.errors import UndecodableMessage

JSON = "application/json"
PROTOBUF = "application/protobuf"
_PROTOBUF_NAMES = frozenset({"", PROTOBUF, "application/x-protobuf", "application/octet-stream"})

M = TypeVar("M", bound=Message)


def decode(record: Record, kind: type[M]) -> M:
    """Raises UndecodableMessage. Unknown JSON fields are ignored, as unknown protobuf fields are."""
    content_type = (record.header("content-type") or "").partition(";")[0].strip().lower()
    name = kind.DESCRIPTOR.name
    message = kind()
    try:
        if content_type == JSON:
            json_format.Parse(record.value.decode("utf-8"), message, ignore_unknown_fields=True)
        elif content_type in _PROTOBUF_NAMES:
            message.ParseFromString(record.value)
        else:
            raise UndecodableMessage(f"content type {content_type[:100]!r} is not known", expected=name)
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise UndecodableMessage(f"not the JSON form of {name}: {str(error)[:200]}", expected=name) from None
    except DecodeError:
        raise UndecodableMessage(f"not the bytes of a {name}", expected=name) from None
    return message
