"""What a record becomes: decoded, refused, ended with an error, or set aside with its reason."""

import pytest

from coe._proto import events_pb2
from coe.platform import prompts, topics
from coe.platform.bus.api import Outcome, Outgoing, Record
from coe.platform.bus.codec import decode
from coe.platform.bus.handle import handle
from coe.platform.bus.headers import event_type
from coe.platform.bus.messages import MAX_MESSAGE_BYTES, messages
from coe.platform.deadline import check, deadline_ms
from coe.platform.errors import DeadlineExceeded, ExpertNotFound, InvalidPrompt, UndecodableMessage
from coe.platform.terminal import error_outcome


def record(value: bytes = b"", key: bytes | None = b"r", topic: str = topics.PROMPTS, **headers: str) -> Record:
    pairs = tuple((name.replace("_", "-"), text.encode()) for name, text in headers.items())
    return Record(topic, 0, 0, key, value, pairs, 0)


@pytest.mark.parametrize(
    ("value", "content_type"),
    [
        (b'{"prompt": ', "application/json"),
        (b"\xff\xfe", "application/json"),
        (b'{"prompt": 3}', "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"\xff\xff\xff", "application/protobuf"),
        (b"x", "text/plain"),
    ],
)
def test_what_is_not_the_message_is_refused(value: bytes, content_type: str) -> None:
    with pytest.raises(UndecodableMessage):
        decode(record(value, content_type=content_type), events_pb2.PromptSubmitted)


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ('{"budget": "economy"}', "budget"),
        ('{"budget": []}', "budget"),
        ('{"budget": 3}', "budget"),
        ('{"sampling": ["seed"]}', "sampling"),
        ('{"messages": ["hi"]}', "messages"),
        ('{"messages": [{"toolCalls": ["weather"]}]}', "toolCalls"),
        ("[]", "the message"),
        ('"request_id"', "the message"),
        ("null", "the message"),
    ],
)
def test_what_must_be_a_json_object_is_one(value: str, wrong: str) -> None:
    with pytest.raises(UndecodableMessage, match=f"{wrong} must be a JSON object"):
        decode(record(value.encode(), content_type="application/json"), events_pb2.PromptSubmitted)


def test_null_is_absent_and_unknown_fields_may_be_anything() -> None:
    value = b'{"prompt": "hi", "budget": null, "messages": null, "later": ["x"]}'
    prompt = decode(record(value, content_type="application/json"), events_pb2.PromptSubmitted)
    assert prompt == events_pb2.PromptSubmitted(prompt="hi")


def test_json_without_its_header_is_told_of_it() -> None:
    for named in (record(b'{"prompt": "hi"}'), record(b'{"prompt": "hi"}', Content_Type="application/json")):
        with pytest.raises(UndecodableMessage, match="JSON has the header content-type: application/json"):
            decode(named, events_pb2.PromptSubmitted)


def test_the_header_wins_over_the_field() -> None:
    prompt = events_pb2.PromptSubmitted(deadline_ms=5)
    assert deadline_ms(record(coe_deadline_ms="7"), prompt) == 7
    assert deadline_ms(record(coe_deadline_ms="soon"), prompt) == 5
    for nothing in ("0", "-7", "9" * 40, "9" * 5000):
        assert deadline_ms(record(coe_deadline_ms=nothing), prompt) == 5


def test_a_deadline_passes() -> None:
    check(None, 1)
    check(10, 9)
    with pytest.raises(DeadlineExceeded):
        check(10, 10)


def test_a_named_prompt_gets_its_terminal_event() -> None:
    prompt = events_pb2.PromptSubmitted(request_id="a", tenant="t")
    outcome = error_outcome(record(), prompt, ExpertNotFound("no such expert", expert="x"), now_ms=3)
    assert outcome.dead_letter is None
    (sent,) = outcome.publish
    assert (sent.topic, sent.key) == (topics.COMPLETIONS, "a")
    assert isinstance(sent.message, events_pb2.PromptCompleted)
    assert (sent.message.error.code, sent.message.tenant, sent.message.completed_at_ms) == ("expert_not_found", "t", 3)


def test_an_undecodable_message_is_set_aside_and_its_key_told() -> None:
    outcome = error_outcome(record(b"\xff"), None, UndecodableMessage("no"))
    assert outcome.dead_letter is not None
    assert [sent.key for sent in outcome.publish] == ["r"]


def test_an_error_comes_in_the_form_of_its_prompt() -> None:
    refused = UndecodableMessage("no")
    for wanted, came in ((True, record(b"{", content_type="application/json")), (False, record(b"\xff"))):
        sent, _ = messages(came, error_outcome(came, None, refused), "coe/test", 0)
        assert sent.value.startswith(b'{"') == wanted
        answer = Record(sent.topic, 0, 0, sent.key, sent.value, tuple(sent.headers), 0)
        assert decode(answer, events_pb2.PromptCompleted).error.code == "undecodable_message"


@pytest.mark.parametrize(
    "unnamed",
    [*(record(key=key) for key in (None, b"\xff", b"a\nb", b"k" * 300)), record(topic=topics.ASSIGNMENTS)],
)
def test_a_message_that_names_no_prompt_is_only_set_aside(unnamed: Record) -> None:
    outcome = error_outcome(unnamed, None, UndecodableMessage("no"))
    assert outcome.publish == ()
    assert outcome.dead_letter is not None


def test_a_prompt_without_id_is_only_set_aside() -> None:
    for request_id in ("", "r" * 300):
        prompt = events_pb2.PromptSubmitted(request_id=request_id)
        outcome = error_outcome(record(), prompt, UndecodableMessage("no id"))
        assert outcome.publish == ()
        assert outcome.dead_letter is not None


def test_event_types_are_words() -> None:
    assert event_type("PromptSubmitted") == "ai.coe.prompt.submitted.v1"


def test_a_result_that_no_topic_takes_becomes_an_error() -> None:
    large = events_pb2.PromptCompleted(
        request_id="r", completion=events_pb2.PromptCompleted.Completion(text="x" * MAX_MESSAGE_BYTES)
    )
    sent = messages(record(b"body"), Outcome(publish=(Outgoing(topics.COMPLETIONS, "r", large),)), "coe/test", 0)
    assert [message.topic for message in sent] == [topics.COMPLETIONS, topics.DEAD_LETTER]
    assert events_pb2.PromptCompleted.FromString(sent[0].value).error.code == "internal"


@pytest.mark.parametrize("name", ["coe-deadline-ms", "coe-answer-type", "traceparent", "tracestate"])
def test_no_header_is_carried_whatever_its_size(name: str) -> None:
    value = b"9" * (MAX_MESSAGE_BYTES - 64 * 1024 + 100)
    large = Record(topics.PROMPTS, 0, 0, b"r", b"", ((name, value),), 0)
    routed = Outgoing(topics.ROUTED, "r", events_pb2.PromptRouted())
    (sent,) = messages(large, Outcome(publish=(routed,)), "coe/test", 0)
    assert sent.nbytes < 1000


def test_a_result_of_a_worker_that_no_topic_takes_is_still_its_prompts() -> None:
    large = events_pb2.PromptCompleted(
        request_id="r", tenant="t", completion=events_pb2.PromptCompleted.Completion(text="x" * MAX_MESSAGE_BYTES)
    )
    assigned = record(b"body", b"expert#0", topics.ASSIGNMENTS, coe_deadline_ms="7")
    ended, _ = messages(assigned, Outcome(publish=(Outgoing(topics.COMPLETIONS, "r", large),)), "coe/test", 3)
    assert ended.key == b"r"
    told = events_pb2.PromptCompleted.FromString(ended.value)
    assert (told.request_id, told.tenant, told.error.code, told.attempt) == ("r", "t", "internal", 3)


@pytest.mark.parametrize("key", [None, b"another"])
@pytest.mark.parametrize("kind", [events_pb2.PromptRouted, events_pb2.PromptAssigned])
def test_a_prompt_whose_key_is_not_its_name_is_told_by_its_name(
    kind: type[events_pb2.PromptRouted | events_pb2.PromptAssigned], key: bytes | None
) -> None:
    prompt = events_pb2.PromptSubmitted(request_id="r", tenant="t", prompt="x" * MAX_MESSAGE_BYTES)
    ended, _ = messages(record(b"body", key), Outcome(publish=(Outgoing("onward", "r", kind(prompt=prompt)),)), "s", 0)
    told = events_pb2.PromptCompleted.FromString(ended.value)
    assert (ended.key, told.request_id, told.tenant, told.error.code) == (b"r", "r", "t", "internal")


def test_a_result_that_can_not_be_written_becomes_an_error() -> None:
    broken = Outgoing(topics.ROUTED, "\ud800", events_pb2.PromptRouted())
    sent = messages(record(), Outcome(publish=(broken,)), "coe/test", 0)
    assert [message.topic for message in sent] == [topics.COMPLETIONS, topics.DEAD_LETTER]
    assert events_pb2.PromptCompleted.FromString(sent[0].value).error.code == "internal"


@pytest.mark.parametrize("headers", [((("\ufffd" * 1_000_000), None),), (("", None),) * 1_000_000])
def test_headers_count_as_the_bytes_they_take(headers: tuple[tuple[str, bytes | None], ...]) -> None:
    full = Record(topics.PROMPTS, 0, 0, b"r", b"", headers, 0)
    (letter,) = messages(full, Outcome(dead_letter=UndecodableMessage("no")), "coe/test", 0)
    assert len(letter.headers) < 20


def test_a_record_too_large_to_set_aside_leaves_its_beginning() -> None:
    size = MAX_MESSAGE_BYTES // 2
    large = Record(topics.PROMPTS, 3, 7, b"k" * size, b"v" * size, (("x", b"h" * size),), 0)
    (letter,) = messages(large, Outcome(dead_letter=UndecodableMessage("no")), "coe/test", 0)
    assert letter.nbytes < 10_000
    assert letter.key is not None
    assert (set(letter.key), set(letter.value)) == ({ord("k")}, {ord("v")})
    assert ("coe-dlt-original-offset", b"7") in letter.headers


def test_long_names_are_refused() -> None:
    for name in ("request_id", "expert_id", "category", "tenant", "conversation_id"):
        with pytest.raises(InvalidPrompt, match=name):
            prompts.check(events_pb2.PromptSubmitted(prompt="a", **{name: "x" * 300}), max_bytes=10)


async def test_a_handler_that_fails_spoils_one_record() -> None:
    async def handler(records: "list[Record]") -> list[Outcome]:
        if any(one.value == b"bad" for one in records):
            raise ExpertNotFound("gone")
        return [Outcome() for _ in records]

    outcomes = await handle(handler, [record(b"good"), record(b"bad"), record(b"good")])
    assert [outcome.dead_letter is None for outcome in outcomes] == [True, False, True]


async def test_a_handler_that_gives_too_few_outcomes_loses_none() -> None:
    async def handler(records: "list[Record]") -> list[Outcome]:
        return [Outcome()] if len(records) == 1 else []

    assert len(await handle(handler, [record(), record()])) == 2
