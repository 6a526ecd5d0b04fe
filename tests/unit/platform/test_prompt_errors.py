"""A prompt that ends with an error is one line in the log of the service that ended it, and a count."""

import pytest
from structlog.testing import capture_logs

from coe._proto import common_pb2, events_pb2
from coe.platform import errors, topics
from coe.platform.bus.api import Outcome, Record
from coe.platform.bus.messages import messages
from coe.platform.errors import CoEError
from coe.platform.telemetry import registry
from coe.platform.terminal import error_outcome

SECRET = "my secret diary"
KINDS = [kind for kind in errors.walk(CoEError) if kind is not CoEError]


def record(topic: str = topics.ASSIGNMENTS) -> Record:
    return Record(topic, 3, 7, b"r-1", SECRET.encode(), (), 0)


def ended(error: CoEError) -> Outcome:
    return error_outcome(
        record(),
        events_pb2.PromptSubmitted(request_id="r-1", prompt=SECRET, tenant="t"),
        error,
        assignment=common_pb2.Assignment(expert_id="smollm2"),
        attempt=1,
        worker="worker-0",
    )


@pytest.mark.parametrize("kind", KINDS)
def test_one_line_names_prompt_code_expert_and_worker(kind: type[CoEError]) -> None:
    with capture_logs() as logs:
        messages(record(), ended(kind(f"it broke at {SECRET}" if kind.of_client else "it broke")), "coe/test", 0)
    (line,) = logs
    assert SECRET not in repr(line)
    assert line["log_level"] == ("info" if kind.of_client else "warning")
    assert line.get("reason") == (None if kind.of_client else "it broke")
    facts = ("request_id", "code", "expert", "worker", "attempt", "topic", "partition", "offset")
    assert [line[name] for name in facts] == [
        "r-1",
        kind.code,
        "smollm2",
        "worker-0",
        1,
        topics.ASSIGNMENTS,
        3,
        7,
    ]


def test_an_answer_is_no_line() -> None:
    with capture_logs() as logs:
        messages(record(), Outcome(), "coe/test", 0)
    assert logs == []


def test_what_names_no_prompt_is_one_line_too() -> None:
    with capture_logs() as logs:
        messages(record(), error_outcome(record(), None, errors.UndecodableMessage(SECRET)), "coe/test", 0)
    (line,) = logs
    assert SECRET not in repr(line)
    assert (line["code"], line["topic"], line["offset"]) == ("undecodable_message", topics.ASSIGNMENTS, 7)


def test_an_undecodable_prompt_that_is_named_is_one_line() -> None:
    named = record(topics.PROMPTS)
    with capture_logs() as logs:
        messages(named, error_outcome(named, None, errors.UndecodableMessage(SECRET)), "coe/test", 0)
    (line,) = logs
    assert (line["request_id"], line["code"]) == ("r-1", "undecodable_message")


def test_every_end_is_counted_under_its_code() -> None:
    def counted() -> float:
        observed = registry.counter("coe.prompt.errors").observe(None)  # type: ignore[arg-type]  # unused
        return sum(one.value for one in observed if one.attributes == {"error.type": "tier_load"})

    before = counted()
    messages(record(), ended(errors.TierLoadError("no")), "coe/test", 0)
    assert counted() == before + 1
