"""What the gateway checks and fills in before a prompt enters the Kafka path."""

from coe._proto import events_pb2
from coe.platform import prompts


def admit(
    prompt: events_pb2.PromptSubmitted, *, now_ms: int, timeout_s: float, max_prompt_bytes: int
) -> events_pb2.PromptSubmitted:
    """A copy with submission time and absolute deadline. Raises InvalidPrompt or PromptTooLarge."""
    prompts.check(prompt, max_bytes=max_prompt_bytes)
    admitted = events_pb2.PromptSubmitted()
    admitted.CopyFrom(prompt)
    admitted.submitted_at_ms = now_ms
    admitted.deadline_ms = now_ms + round(timeout_s * 1000)
    return admitted
