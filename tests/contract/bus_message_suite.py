"""The bus contract: what lies on the topics."""

import json
from collections.abc import Sequence

import pytest

from coe._proto import events_pb2
from coe.platform import topics
from coe.platform.bus.api import Outcome, Outgoing, Record
from coe.platform.bus.codec import answered_in_json, decode
from coe.platform.errors import UndecodableMessage
from coe.platform.terminal import error_outcome
from contract.bus_world import World, running, until


class MessageSuite:
    async def test_a_poison_message_becomes_a_dead_letter_as_it_was(self, world: World) -> None:
        await world.create()
        bus = await world.cluster.bus()

        async def handler(records: Sequence[Record]) -> Sequence[Outcome]:
            outcomes = []
            for record in records:
                try:
                    outcomes.append(world.answer(record))
                except UndecodableMessage as error:
                    outcomes.append(error_outcome(record, None, error))
            return outcomes

        async with world.following(bus, world.output, topics.DEAD_LETTER) as seen:
            await world.cluster.produce(world.input, b"k", b"\xff\x00poison", [("x", b"1"), ("x", b"2")])
            await world.submit(bus, "good")
            async with running(bus.process(world.subscription(), handler)):
                await until(lambda: len(seen) >= 2)
        (letter,) = [record for record in seen if record.topic == topics.DEAD_LETTER]
        assert (letter.key, letter.value) == (b"k", b"\xff\x00poison")
        assert [value for name, value in letter.headers if name == "x"] == [b"1", b"2"]
        assert letter.header("coe-dlt-reason") == "undecodable_message"
        assert letter.header("coe-dlt-original-topic") == world.input
        assert letter.header("coe-dlt-original-offset") is not None
        assert letter.header("coe-dlt-attempts") == "1"

    async def test_json_and_protobuf_are_the_same_message(self, world: World) -> None:
        await world.create()
        bus = await world.cluster.bus()
        body = events_pb2.PromptSubmitted(request_id="a", prompt="Grüße").SerializeToString()
        async with world.following(bus, world.input) as seen:
            await world.cluster.produce(
                world.input,
                b"a",
                '{"requestId": "a", "prompt": "Grüße", "later": 1}'.encode(),
                [("content-type", b"application/json; charset=utf-8")],
            )
            await world.cluster.produce(world.input, b"a", body)
            await until(lambda: len(seen) == 2)
        first, second = (decode(record, events_pb2.PromptSubmitted) for record in seen)
        assert first == second

    async def test_headers_tell_event_and_deadline_on_every_hop(self, world: World) -> None:
        await world.create()
        bus = await world.cluster.bus()
        async with world.following(bus) as seen, running(bus.process(world.subscription(), world.answer_all)):
            headers = [("coe-deadline-ms", b"99"), ("traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-00")]
            headers.append(("coe-prompt-digest", b"0123456789abcdef"))
            await world.cluster.produce(world.input, b"r", b"\n\x01r", headers)
            await until(lambda: len(seen) == 1)
        record = seen[0]
        assert record.header("ce_specversion") == "1.0"
        assert record.header("ce_type") == "ai.coe.prompt.completed.v1"
        assert record.header("ce_id")
        assert record.header("content-type") == "application/protobuf"
        assert record.header("coe-deadline-ms") == "99"
        assert record.header("coe-prompt-digest") == "0123456789abcdef"
        assert (record.header("traceparent") or "").startswith("00-" + "a" * 32)

    @pytest.mark.parametrize(
        ("content_type", "asked", "answer"),
        [
            ("application/json; charset=utf-8", None, "application/json"),
            ("application/json", "application/protobuf", None),
            ("application/json", "text/plain", "application/json"),
            ("application/protobuf", "application/json", "application/json"),
            ("application/protobuf", None, None),
        ],
    )
    async def test_the_form_of_the_answer_is_known_on_every_hop(
        self, world: World, content_type: str, asked: str | None, answer: str | None
    ) -> None:
        await world.create()
        bus = await world.cluster.bus()
        async with world.following(bus) as seen, running(bus.process(world.subscription(), world.answer_all)):
            value = b'{"request_id": "r"}' if "json" in content_type else b"\n\x01r"
            headers = [("content-type", content_type.encode())]
            headers += [] if asked is None else [("coe-answer-type", asked.encode())]
            await world.cluster.produce(world.input, b"r", value, headers)
            await until(lambda: len(seen) == 1)
        assert seen[0].header("content-type") == "application/protobuf"
        assert seen[0].header("coe-answer-type") == answer
        assert answered_in_json(seen[0]) == (answer is not None)

    async def test_json_is_written_with_the_fields_own_names_and_zeros(self, world: World) -> None:
        await world.create()
        bus = await world.cluster.bus()
        chunk = events_pb2.TokenChunk(request_id="r", text={"text": "Grüße"})
        async with world.following(bus) as seen:
            await bus.publisher.publish(Outgoing(world.output, "r", chunk, as_json=True))
            await until(lambda: len(seen) == 1)
        assert seen[0].header("content-type") == "application/json"
        assert json.loads(seen[0].value) == {
            "request_id": "r",
            "attempt": 0,
            "sequence": 0,
            "text": {"text": "Grüße", "tokens": 0, "logprobs": []},
        }
        assert decode(seen[0], events_pb2.TokenChunk) == chunk

    async def test_a_null_header_counts_as_absent(self, world: World) -> None:
        await world.create()
        bus = await world.cluster.bus()
        async with world.following(bus) as seen, running(bus.process(world.subscription(), world.answer_all)):
            headers = [(name, None) for name in ("coe-deadline-ms", "content-type", "traceparent")]
            await world.cluster.produce(world.input, b"r", b"\n\x01r", headers)
            await until(lambda: len(seen) == 1)
        assert seen[0].header("coe-deadline-ms") is None
