"""Builds response objects, which repeat the request's parameters, and their output items."""

from collections.abc import Iterable
from typing import Any

from coe._proto import common_pb2, events_pb2
from coe.gateway.dialects.logprobs import told
from coe.platform.errors import CoEError


def finished(begun: dict[str, Any], result: events_pb2.PromptCompleted, output: list[dict[str, Any]]) -> dict[str, Any]:
    cut = is_cut(result.completion)
    return begun | {
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": output,
        "usage": usage(result.usage),
    }


def failed(begun: dict[str, Any], error: CoEError) -> dict[str, Any]:
    """The response of a failed prompt. Its `code` is limited to OpenAI's values; our own is in the `error` event."""
    kind = "rate_limit_exceeded" if error.http_status == 429 else "invalid_prompt"
    code = kind if error.http_status < 500 else "server_error"
    return begun | {"status": "failed", "error": {"code": code, "message": error.message}}


def output_of(
    answer: events_pb2.PromptCompleted.Completion, request_id: str, *, has_message: bool
) -> list[dict[str, Any]]:
    """The output items: the message, if it has text or there are no calls, then the calls."""
    output = []
    if has_message or answer.text or not answer.tool_calls:
        status = "incomplete" if is_cut(answer) else "completed"
        output.append(message(request_id, status, [text_part(answer.text, answer.logprobs)]))
    output.extend(call_item(call, request_id, index) for index, call in enumerate(answer.tool_calls))
    return output


def message(request_id: str, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": f"msg_{request_id}",
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": content,
    }


def text_part(text: str, logprobs: Iterable[common_pb2.TokenLogprob] = ()) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": told(logprobs)}


def call_item(call: common_pb2.ToolCall, request_id: str, index: int) -> dict[str, Any]:
    return {
        "id": f"fc_{request_id}_{index}",
        "type": "function_call",
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
        "status": "completed",
    }


def usage(counts: common_pb2.Usage) -> dict[str, Any]:
    return {
        "input_tokens": counts.prompt_tokens,
        "input_tokens_details": {"cached_tokens": counts.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": counts.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": counts.prompt_tokens + counts.completion_tokens,
    }


def is_cut(answer: events_pb2.PromptCompleted.Completion) -> bool:
    return answer.finish_reason == "length"
