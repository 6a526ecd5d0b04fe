"""A prompt that ends with an error is one line in the log of the service that ended it, and a count."""

import pytest
from structlog.testing import capture_logs

from coe._proto import common_pb2, events_pb2
from coe.mapper import policy
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


def counted(code: str) -> float:
    observed = registry.counter("coe.prompt.errors").observe(None)  # type: ignore[arg-type]  # unused
    return sum(one.value for one in observed if one.attributes == {"error.type": code})


def test_every_end_is_counted_under_its_code() -> None:
    before = counted("tier_load")
    messages(record(), ended(errors.TierLoadError("no")), "coe/test", 0)
    assert counted("tier_load") == before + 1


def test_an_expert_that_a_client_made_up_pages_nobody() -> None:
    with pytest.raises(errors.ExpertNotFound) as named:
        policy.requested("gpt-4o", policy.Hosted(set(), {}))
    prompt = events_pb2.PromptSubmitted(request_id="r-1", expert_id="gpt-4o")
    routed = record(topics.ROUTED)
    before = counted("invalid_prompt"), counted("expert_not_found")
    messages(routed, error_outcome(routed, prompt, named.value), "coe/test", 0)
    assert (counted("invalid_prompt"), counted("expert_not_found")) == (before[0] + 1, before[1])
    # Hosted nowhere by our fault, and gone from a worker.
    ours = errors.ExpertNotFound("no expert is hosted here", mapped_expert="a")
    messages(routed, error_outcome(routed, prompt, ours), "coe/test", 0)
    messages(record(), ended(named.value), "coe/test", 0)
    assert counted("expert_not_found") == before[1] + 2
