"""Records of coe.prompts.v1 to outcomes, with a classifier that knows one word."""

from collections.abc import Sequence

import pytest

from coe._proto.common_pb2 import ChatMessage, RoutingDecision, Tool
from coe._proto.events_pb2 import PromptCompleted, PromptRouted, PromptSubmitted
from coe.gateway.admission import admit
from coe.platform import topics
from coe.platform.bus.api import Outcome, Record
from coe.platform.errors import InvalidPrompt
from coe.router.handler import RouteHandler

NOW = 1_800_000_000_000


class KnowsPython:
    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def __call__(self, texts: Sequence[str]) -> list[RoutingDecision]:
        self.batches.append(list(texts))
        return [RoutingDecision(category="coding" if "python" in text else "general") for text in texts]


@pytest.fixture
def classify() -> KnowsPython:
    return KnowsPython()


@pytest.fixture
def handler(classify: KnowsPython) -> RouteHandler:
    return RouteHandler(classify, max_bytes=1000, now_ms=lambda: NOW)


def record(
    value: bytes | PromptSubmitted, headers: tuple[tuple[str, bytes], ...] = (), key: bytes | None = None
) -> Record:
    raw = value.SerializeToString() if isinstance(value, PromptSubmitted) else value
    return Record(topics.PROMPTS, 0, 0, key, raw, headers, timestamp_ms=NOW - 5)


def routed(outcome: Outcome) -> PromptRouted:
    (outgoing,) = outcome.publish
    assert outgoing.topic == topics.ROUTED
    assert isinstance(outgoing.message, PromptRouted)
    assert outgoing.key == outgoing.message.prompt.request_id
    return outgoing.message


def error_code(outcome: Outcome) -> str:
    (outgoing,) = outcome.publish
    assert outgoing.topic == topics.COMPLETIONS
    assert isinstance(outgoing.message, PromptCompleted)
    return outgoing.message.error.code


async def test_a_batch_is_classified_at_once_and_keeps_its_order(handler: RouteHandler, classify: KnowsPython) -> None:
    records = [
        record(PromptSubmitted(request_id="a", prompt="a python loop")),
        record(b"\xff\xff", key=b"b"),
        record(PromptSubmitted(request_id="c", prompt="a poem")),
    ]
    first, second, third = await handler(records)
    assert routed(first).routing.category == "coding"
    assert error_code(second) == "undecodable_message"
    assert routed(third).routing.category == "general"
    assert classify.batches == [["a python loop", "a poem"]]


async def test_json_from_any_producer(handler: RouteHandler) -> None:
    json = b'{"request_id": "a", "prompt": "python", "made_by": "someone else"}'
    (outcome,) = await handler([record(json, (("content-type", b"application/json"),))])
    assert routed(outcome).routing.category == "coding"
    assert routed(outcome).prompt.submitted_at_ms == NOW - 5


async def test_functions_that_must_not_be_called_say_nothing(handler: RouteHandler, classify: KnowsPython) -> None:
    tools = [Tool(name="weather")]
    offered = PromptSubmitted(request_id="a", prompt="Hi", tools=tools)
    forbidden = PromptSubmitted(request_id="b", prompt="Hi", tools=tools, tool_choice="none")
    await handler([record(offered), record(forbidden)])
    assert classify.batches == [["Hi\n\nAvailable functions: weather", "Hi"]]


@pytest.mark.parametrize(
    ("prompt", "category"),
    [
        (PromptSubmitted(request_id="a", prompt="python", category="law"), "law"),
        (PromptSubmitted(request_id="a", prompt="python", expert_id="smollm2-135m"), ""),
    ],
)
async def test_what_the_client_decided_is_not_classified(
    prompt: PromptSubmitted, category: str, handler: RouteHandler, classify: KnowsPython
) -> None:
    (outcome,) = await handler([record(prompt)])
    assert routed(outcome).routing.category == category
    assert classify.batches == []


async def test_errors_end_one_prompt_each(handler: RouteHandler, classify: KnowsPython) -> None:
    late = (("coe-deadline-ms", str(NOW).encode()),)
    outcomes = await handler(
        [
            record(PromptSubmitted(request_id="a", prompt="x" * 1001)),
            record(PromptSubmitted(request_id="b", prompt="x"), late),
            record(PromptSubmitted(request_id="c", prompt="x", deadline_ms=NOW - 1)),
        ]
    )
    assert [error_code(outcome) for outcome in outcomes] == [
        "prompt_too_large",
        "deadline_exceeded",
        "deadline_exceeded",
    ]
    assert classify.batches == []


@pytest.mark.parametrize(
    "nothing",
    [
        PromptSubmitted(request_id="a"),
        PromptSubmitted(request_id="a", prompt=" \n\t\u3000"),
        PromptSubmitted(request_id="a", expert_id="smollm2-135m"),
        PromptSubmitted(request_id="a", prompt=" ", category="law"),
        PromptSubmitted(request_id="a", messages=[ChatMessage(role="system", content="x"), ChatMessage(role="user")]),
    ],
)
async def test_a_prompt_without_text_ends_with_one_error(
    nothing: PromptSubmitted, handler: RouteHandler, classify: KnowsPython
) -> None:
    (outcome,) = await handler([record(nothing)])
    assert error_code(outcome) == "invalid_prompt"
    assert outcome.dead_letter is None
    assert classify.batches == []
    # The gateway says the same.
    with pytest.raises(InvalidPrompt, match="the prompt is empty"):
        admit(nothing, request_id="r", now_ms=NOW, timeout_s=1, max_prompt_bytes=1000, tenant=None)


async def test_a_message_that_names_no_prompt_is_a_dead_letter(handler: RouteHandler) -> None:
    outcomes = await handler([record(b"\xff\xff"), record(PromptSubmitted(prompt="who asks?"))])
    assert [outcome.dead_letter.code for outcome in outcomes if outcome.dead_letter] == [
        "undecodable_message",
        "invalid_prompt",
    ]
    assert all(not outcome.publish for outcome in outcomes)


async def test_the_deadline_header_becomes_the_field(handler: RouteHandler) -> None:
    headers = (("coe-deadline-ms", str(NOW + 500).encode()),)
    (outcome,) = await handler([record(PromptSubmitted(request_id="a", prompt="x", deadline_ms=NOW - 1), headers)])
    assert routed(outcome).prompt.deadline_ms == NOW + 500


async def second_is_known(prompts: Sequence[tuple[str, Record]]) -> list[bool]:
    return [index == 1 for index in range(len(prompts))]


async def test_what_was_submitted_before_is_done_without_any_answer(classify: KnowsPython) -> None:
    handler = RouteHandler(classify, max_bytes=1000, now_ms=lambda: NOW, duplicates=second_is_known)
    prompt = record(PromptSubmitted(request_id="a", prompt="python"))
    first, second, third = await handler([prompt, prompt, record(PromptSubmitted(request_id="c", prompt="poem"))])
    assert (second.publish, second.dead_letter) == ((), None)
    assert routed(first).prompt.request_id == "a"
    assert routed(third).routing.category == "general"
    assert classify.batches == [["python", "poem"]]


async def test_errors_come_once_too_and_nameless_records_are_not_asked_about(classify: KnowsPython) -> None:
    asked: list[str] = []

    async def all_known(prompts: Sequence[tuple[str, Record]]) -> list[bool]:
        asked.extend(name for name, _ in prompts)
        return [True] * len(prompts)

    handler = RouteHandler(classify, max_bytes=1, now_ms=lambda: NOW, duplicates=all_known)
    too_large = record(PromptSubmitted(request_id="a", prompt="python"))
    undecodable, nameless = record(b"\xff\xff", key=b"b"), record(b"\xff\xff")
    outcomes = await handler([too_large, undecodable, nameless])
    assert asked == ["a", "b"]
    assert [bool(outcome.publish) for outcome in outcomes] == [False, False, False]
    # Other bytes under a key that came before: nobody has those.
    assert [outcome.dead_letter is not None for outcome in outcomes] == [False, True, True]


@pytest.mark.parametrize(
    ("claimed", "stamped", "taken"),
    [
        (NOW - 20, NOW - 5, NOW - 20),
        # A client's clock may be a little ahead of the broker's.
        (NOW - 3, NOW - 5, NOW - 3),
        (0, NOW - 5, NOW - 5),
        (-7, NOW - 5, NOW - 5),
        (NOW + 1, NOW - 5, NOW - 5),
        (2**63 - 1, NOW - 5, NOW - 5),
        (1, NOW - 5, NOW - 5),
        # The record's timestamp is its producer's too, unless the topic says otherwise.
        (1, 2, NOW),
        (0, NOW + 10**9, NOW),
        (0, -1, NOW),
    ],
)
async def test_latencies_count_from_a_time_that_can_be(claimed: int, stamped: int, taken: int) -> None:
    handler = RouteHandler(KnowsPython(), max_bytes=1000, now_ms=lambda: NOW)
    prompt = record(PromptSubmitted(request_id="a", prompt="python", submitted_at_ms=claimed))
    (outcome,) = await handler([prompt._replace(timestamp_ms=stamped)])
    assert routed(outcome).prompt.submitted_at_ms == taken
