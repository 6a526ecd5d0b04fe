"""The end of an answer over gRPC."""

from coe._proto import common_pb2, events_pb2
from coe.client.events import Completed
from coe.gateway.generate import responses


def test_the_end_has_text_calls_and_what_was_used() -> None:
    calls = [common_pb2.ToolCall(id="call_1", name="f", arguments="{}")]
    ended = events_pb2.PromptCompleted.Completion(text="a", finish_reason="tool_calls", tool_calls=calls)
    used = common_pb2.Usage(prompt_tokens=3, completion_tokens=2)
    usage, done = responses(Completed(events_pb2.PromptCompleted(completion=ended, usage=used)), 1)
    assert usage.usage == used
    assert (done.done.text, done.done.finish_reason, list(done.done.tool_calls)) == ("a", "tool_calls", calls)
