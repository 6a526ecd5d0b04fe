"""Streams a response as named events that announce when each item begins, grows and ends."""

from collections.abc import Iterator, Sequence
from typing import Any

from coe._proto import common_pb2, events_pb2
from coe.gateway.dialects import response_output
from coe.gateway.dialects.logprobs import told
from coe.gateway.refusals import code_of
from coe.gateway.sse import event
from coe.platform.errors import CoEError


class ResponseEvents:
    """Formats the events. `begun` is the response object while in progress."""

    def __init__(self, begun: dict[str, Any], request_id: str) -> None:
        self._begun = begun
        self._request_id = request_id
        self._number = 0
        self._has_message = False
        # Log-probabilities of tokens that arrived before any text.
        self._logprobs: list[common_pb2.TokenLogprob] = []

    def begun(self) -> Iterator[str]:
        yield self._event("response.created", response=self._begun)
        yield self._event("response.in_progress", response=self._begun)

    def more(self, text: str, logprobs: Sequence[common_pb2.TokenLogprob]) -> Iterator[str]:
        self._logprobs.extend(logprobs)
        if not text and not self._has_message:
            return
        yield from self._begin_message()
        yield self._of_text("response.output_text.delta", delta=text, logprobs=told(self._logprobs))
        self._logprobs.clear()

    def ended(self, result: events_pb2.PromptCompleted) -> Iterator[str]:
        output = response_output.output_of(result.completion, self._request_id, has_message=self._has_message)
        for index, item in enumerate(output):
            yield from self._end_message(item) if item["type"] == "message" else self._call(index, item)
        response = response_output.finished(self._begun, result, output)
        yield self._event(f"response.{response['status']}", response=response)

    def failed(self, error: CoEError) -> Iterator[str]:
        yield self._event("error", code=code_of(error), message=error.message, param=error.details.get("param"))
        yield self._event("response.failed", response=response_output.failed(self._begun, error))

    def _begin_message(self) -> Iterator[str]:
        if self._has_message:
            return
        self._has_message = True
        item = response_output.message(self._request_id, "in_progress", [])
        yield self._event("response.output_item.added", output_index=0, item=item)
        yield self._of_text("response.content_part.added", part=response_output.text_part(""))

    def _end_message(self, item: dict[str, Any]) -> Iterator[str]:
        yield from self._begin_message()
        (part,) = item["content"]
        yield self._of_text("response.output_text.done", text=part["text"], logprobs=part["logprobs"])
        yield self._of_text("response.content_part.done", part=part)
        yield self._event("response.output_item.done", output_index=0, item=item)

    def _call(self, index: int, item: dict[str, Any]) -> Iterator[str]:
        """The events of a call, with its arguments complete in one delta."""
        of = {"item_id": item["id"], "output_index": index}
        begun = item | {"status": "in_progress", "arguments": ""}
        arguments, name = item["arguments"], item["name"]
        yield self._event("response.output_item.added", output_index=index, item=begun)
        yield self._event("response.function_call_arguments.delta", **of, delta=arguments)
        yield self._event("response.function_call_arguments.done", **of, arguments=arguments, name=name)
        yield self._event("response.output_item.done", output_index=index, item=item)

    def _of_text(self, kind: str, **fields: Any) -> str:
        return self._event(kind, item_id=f"msg_{self._request_id}", output_index=0, content_index=0, **fields)

    def _event(self, kind: str, **fields: Any) -> str:
        number, self._number = self._number, self._number + 1
        return event({"type": kind, "sequence_number": number, **fields}, kind)
