"""What a worker does with a record before its loop sees it."""

from coe._proto import events_pb2
from coe.expert_worker.intake import Intake
from coe.expert_worker.prompt import Prompt
from coe.platform import topics
from coe.platform.bus.api import Outcome, Record
from coe.platform.errors import InternalError


def assigned() -> Record:
    message = events_pb2.PromptAssigned(
        prompt={"request_id": "r", "prompt": "p", "tenant": "t"}, assignment={"expert_id": "a"}
    )
    return Record(topics.ASSIGNMENTS, 0, 0, b"a#0", message.SerializeToString(), (), 0)


def test_a_prompt_that_has_used_up_its_attempts_ends_with_an_error() -> None:
    intake = Intake(lambda _: "", lambda: 0.0, max_prompt_bytes=100, worker="w", max_attempts=3)
    assert all(isinstance(intake.receive(assigned(), attempt), Prompt) for attempt in range(3))
    for attempt in (3, 100):
        ended = intake.receive(assigned(), attempt)
        assert isinstance(ended, Outcome)
        assert isinstance(ended.dead_letter, InternalError)
        (told,) = ended.publish
        assert isinstance(told.message, events_pb2.PromptCompleted)
        assert (told.topic, told.key, told.message.attempt) == (topics.COMPLETIONS, "r", attempt)
        assert (told.message.error.code, told.message.tenant) == ("internal", "t")
