"""Which prompts of one request id are the same."""

import pytest

from coe._proto import events_pb2
from coe.platform import topics
from coe.platform.bus.api import Record
from coe.platform.digest import DIGEST_HEADER, digest_header, digest_of


def prompt(**fields: object) -> events_pb2.PromptSubmitted:
    return events_pb2.PromptSubmitted(**{"request_id": "r", "prompt": "hi", **fields})  # type: ignore[arg-type]


def test_submitted_again_it_is_the_same() -> None:
    assert digest_of(prompt()) == digest_of(prompt(request_id="r~2", submitted_at_ms=3, deadline_ms=7))


@pytest.mark.parametrize(
    "fields",
    [{"prompt": "ho"}, {"sampling": {"seed": 1}}, {"sampling": {"seed": 0}}, {"expert_id": "a"}, {"tenant": "acme"}],
)
def test_whatever_else_is_asked_for_makes_another(fields: dict[str, object]) -> None:
    assert digest_of(prompt(**fields)) != digest_of(prompt())


def test_a_prompt_is_left_as_it_was() -> None:
    asked = prompt(deadline_ms=7)
    digest_of(asked)
    assert (asked.request_id, asked.deadline_ms) == ("r", 7)


@pytest.mark.parametrize(("said", "taken"), [(b"0123456789abcdef", "0123456789abcdef"), (b"x" * 16, ""), (None, "")])
def test_a_header_of_another_form_is_none(said: bytes | None, taken: str) -> None:
    assert digest_header(Record(topics.COMPLETIONS, 0, 0, b"r", b"", ((DIGEST_HEADER, said),), 0)) == taken
