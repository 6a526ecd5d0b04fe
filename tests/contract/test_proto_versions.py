"""Two minor versions of the messages side by side: every released version against the present one, in both directions.

The promise (docs/operations/compatibility.md): nothing is removed, renumbered or retyped; who reads an older message
sees defaults; who passes a newer message on loses nothing of it.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.message import Message

from coe._proto import (
    common_pb2,
    events_pb2,
    expert_worker_pb2,
    gateway_pb2,
    mapper_pb2,
    memory_tier_manager_pb2,
    router_pb2,
)

RELEASED = sorted((Path(__file__).resolve().parents[2] / "protos" / "released").glob("*.binpb"))
PRESENT: list[FileDescriptor] = [
    module.DESCRIPTOR
    for module in (
        common_pb2,
        events_pb2,
        expert_worker_pb2,
        gateway_pb2,
        mapper_pb2,
        memory_tier_manager_pb2,
        router_pb2,
    )
]


def nested(descriptor: Descriptor) -> Iterator[Descriptor]:
    yield descriptor
    for inner in descriptor.nested_types:
        yield from nested(inner)


def messages(files: list[FileDescriptor]) -> dict[str, Descriptor]:
    roots = [root for file in files for root in file.message_types_by_name.values()]
    return {one.full_name: one for root in roots for one in nested(root) if not one.GetOptions().map_entry}


@pytest.fixture(params=RELEASED, ids=lambda path: path.stem)
def released(request: pytest.FixtureRequest) -> list[FileDescriptor]:
    """The files of an older version, in a pool of their own."""
    pool = descriptor_pool.DescriptorPool()
    files = descriptor_pb2.FileDescriptorSet.FromString(request.param.read_bytes()).file
    for file in files:
        pool.Add(file)
    return [pool.FindFileByName(file.name) for file in files if file.package == "coe.v1"]


def kind(field: FieldDescriptor) -> tuple[object, ...]:
    """What the wire and its readers depend on."""
    inner = field.message_type or field.enum_type
    return (field.name, field.type, field.is_repeated, inner.full_name if inner else None)


def sample(descriptor: Descriptor, depth: int = 3) -> Message:
    """A message with every field set, of a oneof the last."""
    message = message_factory.GetMessageClass(descriptor)()
    for field in descriptor.fields:
        target = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is None:
                target["key"] = value(field.message_type.fields_by_name["value"])
        elif field.message_type is not None:
            if depth:
                inner = sample(field.message_type, depth - 1)
                target.append(inner) if field.is_repeated else target.CopyFrom(inner)
        elif field.is_repeated:
            target.append(value(field))
        else:
            setattr(message, field.name, value(field))
    return message


def value(field: FieldDescriptor) -> object:
    if field.type == FieldDescriptor.TYPE_ENUM:
        return field.enum_type.values[-1].number
    if field.type == FieldDescriptor.TYPE_BYTES:
        return b"bytes"
    return {FieldDescriptor.CPPTYPE_STRING: "text", FieldDescriptor.CPPTYPE_BOOL: True}.get(field.cpp_type, 7)


def test_there_is_a_released_version() -> None:
    assert RELEASED


def test_nothing_is_removed_or_changed(released: list[FileDescriptor]) -> None:
    present = messages(PRESENT)
    for name, old in messages(released).items():
        assert name in present, f"{name} is gone"
        fields = present[name].fields_by_number
        for number, field in old.fields_by_number.items():
            assert number in fields, f"{name}.{field.name} is gone"
            assert kind(fields[number]) == kind(field), f"{name}.{field.name} changed"
    services = {name: service for file in PRESENT for name, service in file.services_by_name.items()}
    for file in released:
        for name, service in file.services_by_name.items():
            for method in service.methods:
                now = services[name].methods_by_name[method.name]
                assert now.input_type.full_name == method.input_type.full_name
                assert now.output_type.full_name == method.output_type.full_name
                assert (now.client_streaming, now.server_streaming) == (
                    method.client_streaming,
                    method.server_streaming,
                )


def test_an_older_message_is_read_with_defaults(released: list[FileDescriptor]) -> None:
    present = messages(PRESENT)
    for name, descriptor in messages(released).items():
        old = sample(descriptor)
        new = message_factory.GetMessageClass(present[name])()
        new.ParseFromString(old.SerializeToString())
        added = [field for field in present[name].fields if field.number not in descriptor.fields_by_number]
        assert not any(number == field.number for field in added for number, _ in numbered(new)), name
        again = message_factory.GetMessageClass(descriptor)()
        again.ParseFromString(new.SerializeToString())
        assert again == old, f"{name} does not come back from the present version"


def test_what_an_older_version_passes_on_is_whole(released: list[FileDescriptor]) -> None:
    old = messages(released)
    for name, descriptor in messages(PRESENT).items():
        if name not in old:
            continue
        new = sample(descriptor)
        passed = message_factory.GetMessageClass(old[name])()
        passed.ParseFromString(new.SerializeToString())
        again = message_factory.GetMessageClass(descriptor)()
        again.ParseFromString(passed.SerializeToString())
        assert again == new, f"{name} loses fields in an older version"


def numbered(message: Message) -> list[tuple[int, object]]:
    return [(field.number, content) for field, content in message.ListFields()]
