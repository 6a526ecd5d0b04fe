"""What the gateway checks and fills in before a prompt enters the Kafka path."""

from coe._proto import events_pb2
from coe.experts.sampling_params import SamplingParams
from coe.platform import prompts


def admit(
    prompt: events_pb2.PromptSubmitted, *, now_ms: int, timeout_s: float, max_prompt_bytes: int, tenant: str | None
) -> events_pb2.PromptSubmitted:
    """A copy with submission time and absolute deadline, and the `tenant` that its key is of, if it had to show one.

    Raises InvalidPrompt or PromptTooLarge.
    """
    prompts.check(prompt, max_bytes=max_prompt_bytes)
    SamplingParams.from_proto(prompt.sampling)
    admitted = events_pb2.PromptSubmitted()
    admitted.CopyFrom(prompt)
    admitted.submitted_at_ms = now_ms
    admitted.deadline_ms = now_ms + round(timeout_s * 1000)
    if tenant is not None:
        admitted.tenant = tenant
    return admitted
