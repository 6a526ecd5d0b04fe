"""The main job, seen by an independent Kafka client: fifty prompts in, exactly one terminal event each."""

import json
import time
from collections import defaultdict
from collections.abc import Callable
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer
from google.protobuf import json_format

from coe._proto import common_pb2, events_pb2
from support.stack import RunningStack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]

QUESTIONS = (
    "What is {n} plus {n}?",
    "Name a plant whose name has {n} letters.",
    "def f(x): return x * {n}  # what does f(2) return?",
    "{n} 足す {n} はいくつですか。",
    "Which vitamin deficiency causes tiredness, and how common is it ({n})?",
)
_READ = {
    b"application/json": json_format.Parse,
    b"application/protobuf": lambda value, message: type(message).FromString(value),
}
Completions = dict[str, list[events_pb2.PromptCompleted]]


class KafkaClient:
    """confluent-kafka's producer and consumer: nothing of ours but the message definitions."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
        self.consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"e2e-{uuid4().hex}",
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
            }
        )
        self.consumer.subscribe([topic])
        # Content types of the terminal events.
        self.forms: dict[str, str] = {}

    def close(self) -> None:
        self.producer.flush(10)
        self.consumer.close()

    def send(self, key: str | None, value: bytes, content_type: str) -> None:
        headers = [("content-type", content_type.encode())]
        self.producer.produce("coe.prompts.v1", key=key, value=value, headers=headers)

    def send_json(self, **fields: object) -> None:
        self.send(str(fields["request_id"]), json.dumps(fields).encode(), "application/json")

    def send_protobuf(self, prompt: events_pb2.PromptSubmitted) -> None:
        self.send(prompt.request_id, prompt.SerializeToString(), "application/protobuf")

    def completions(self, until: Callable[[Completions], bool], timeout_s: float = 240.0) -> Completions:
        """Every terminal event on the topic, read until the condition holds."""
        found: Completions = defaultdict(list)
        deadline = time.monotonic() + timeout_s
        while not until(found):
            if time.monotonic() > deadline:
                pytest.fail(f"terminal events of only {len(found)} prompts came: {sorted(found)}")
            message = self.consumer.poll(0.5)
            if message is not None and message.error() is None:
                form = dict(message.headers())["content-type"]
                result = _READ[form](message.value(), events_pb2.PromptCompleted())
                self.forms[result.request_id] = form.decode()
                found[result.request_id].append(result)
        return found


@pytest.fixture
def kafka(stack: RunningStack) -> KafkaClient:
    client = KafkaClient(stack.state["kafka_bootstrap"], "coe.completions.v1")
    yield client
    client.close()


def test_fifty_prompts_get_exactly_one_terminal_event_each(kafka: KafkaClient) -> None:
    run = uuid4().hex[:8]
    texts = {f"{run}-{n}": QUESTIONS[n % len(QUESTIONS)].format(n=n) for n in range(50)}
    for number, (request_id, text) in enumerate(texts.items()):
        if number % 2:
            kafka.send_json(request_id=request_id, prompt=text, sampling={"max_tokens": 8})
        else:
            sampling = common_pb2.SamplingParams(max_tokens=8)
            kafka.send_protobuf(events_pb2.PromptSubmitted(request_id=request_id, prompt=text, sampling=sampling))
    # A last prompt behind the fifty: once it is answered too, a doubled answer would have had its time to come.
    kafka.producer.flush(10)
    found = kafka.completions(lambda found: texts.keys() <= found.keys())
    kafka.send_json(request_id=f"{run}-last", prompt="And now?", sampling={"max_tokens": 1})
    found_later = kafka.completions(lambda found: f"{run}-last" in found)
    for request_id in texts:
        assert len(found[request_id]) == 1, request_id
        assert request_id not in found_later
        check_answer(found[request_id][0])
    assert [kafka.forms[request_id] for request_id in texts] == ["application/protobuf", "application/json"] * 25
    categories = {found[request_id][0].routing.category for request_id in texts}
    assert len(categories) > 1, "the prompts were all routed alike"


def check_answer(result: events_pb2.PromptCompleted) -> None:
    assert result.WhichOneof("outcome") == "completion", result.error
    assert result.completion.finish_reason in ("stop", "length")
    assert 1 <= result.usage.completion_tokens <= 8
    assert result.usage.prompt_tokens > 0
    assert result.assignment.expert_id.startswith("smollm2-135m")
    assert result.routing.router_version
    assert result.assignment.mapping_version
    assert result.tiers.found_in in ("hbm", "ddr", "disk")
    assert 0 < result.timings.time_to_first_token_s <= result.timings.total_s


def test_bad_input_gets_one_clear_error_each_and_stops_nothing(kafka: KafkaClient) -> None:
    run = uuid4().hex[:8]
    hour_ago = int(time.time() * 1000) - 3_600_000
    kafka.send_json(request_id=f"{run}-unknown-expert", prompt="Hello", expert_id="no-such-expert")
    kafka.send_json(request_id=f"{run}-late", prompt="Hello", deadline_ms=hour_ago)
    kafka.send_json(request_id=f"{run}-large", prompt="x " * 200_000)
    kafka.send_json(request_id=f"{run}-context", prompt="word " * 20_000)
    kafka.send_json(request_id=f"{run}-sampling", prompt="Hello", sampling={"temperature": -1})
    kafka.send(f"{run}-broken", b'{"prompt": ', "application/json")
    kafka.send_json(request_id=f"{run}-good", prompt="Hello", sampling={"max_tokens": 4})
    expected = {
        "unknown-expert": "expert_not_found",
        "late": "deadline_exceeded",
        "large": "prompt_too_large",
        "context": "context_exceeded",
        "sampling": "invalid_prompt",
        "broken": "undecodable_message",
    }
    wanted = {f"{run}-{name}" for name in [*expected, "good"]}
    found = kafka.completions(lambda found: wanted <= found.keys())
    for name, code in expected.items():
        (result,) = found[f"{run}-{name}"]
        assert (name, result.error.code) == (name, code)
        assert result.error.message
        assert kafka.forms[f"{run}-{name}"] == "application/json"
    (good,) = found[f"{run}-good"]
    assert good.WhichOneof("outcome") == "completion"


def test_what_names_no_request_is_a_dead_letter_with_its_reason(stack: RunningStack) -> None:
    client = KafkaClient(stack.state["kafka_bootstrap"], "coe.dead-letter.v1")
    try:
        body = b"\xff\xfe not a prompt " + uuid4().hex.encode()
        client.send(None, body, "application/protobuf")
        client.producer.flush(10)
        deadline = time.monotonic() + 60
        while True:
            assert time.monotonic() < deadline, "no dead letter came"
            message = client.consumer.poll(0.5)
            if message is not None and message.error() is None and message.value() == body:
                break
        headers = dict(message.headers())
        assert headers["coe-dlt-reason"] == b"undecodable_message"
        assert headers["coe-dlt-original-topic"] == b"coe.prompts.v1"
        assert {"coe-dlt-original-partition", "coe-dlt-original-offset", "coe-dlt-message"} <= headers.keys()
    finally:
        client.close()
