"""What the gateway checks and fills in before a prompt enters the Kafka path."""

from coe._proto import events_pb2
from coe.platform.errors import InvalidPrompt, PromptTooLarge


def admit(
    prompt: events_pb2.PromptSubmitted, *, now_ms: int, timeout_s: float, max_prompt_bytes: int
) -> events_pb2.PromptSubmitted:
    """A copy with submission time and absolute deadline. Raises InvalidPrompt or PromptTooLarge."""
    if prompt.prompt and prompt.messages:
        raise InvalidPrompt("give either a prompt or messages, not both")
    if not prompt.prompt and not prompt.messages:
        raise InvalidPrompt("the prompt is empty")
    size = len(prompt.prompt.encode()) + sum(len(message.content.encode()) for message in prompt.messages)
    if size > max_prompt_bytes:
        raise PromptTooLarge(f"the prompt has {size} bytes, {max_prompt_bytes} are accepted", limit=max_prompt_bytes)
    admitted = events_pb2.PromptSubmitted()
    admitted.CopyFrom(prompt)
    admitted.submitted_at_ms = now_ms
    admitted.deadline_ms = now_ms + round(timeout_s * 1000)
    return admitted
