"""JSON of a command is what a program gets elsewhere."""

import json

import pytest

from coe._proto import events_pb2
from coe.cli.console import print_json
from coe.platform import topics
from coe.platform.bus.api import Outgoing
from coe.platform.bus.codec import encode


def test_a_message_has_the_form_that_it_has_on_its_topic(capsys: pytest.CaptureFixture[str]) -> None:
    result = events_pb2.PromptCompleted(request_id="a")
    result.completion.finish_reason = "stop"
    print_json(result)
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(encode(Outgoing(topics.COMPLETIONS, "a", result, as_json=True)))
    assert printed["completion"]["text"] == ""
    assert "error" not in printed
