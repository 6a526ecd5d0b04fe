"""What the gateway checks and fills in before a prompt enters the Kafka path."""

from coe._proto import events_pb2
from coe.experts.sampling_params import SamplingParams
from coe.platform import prompts


def admit(
    prompt: events_pb2.PromptSubmitted,
    *,
    request_id: str,
    now_ms: int,
    timeout_s: float,
    max_prompt_bytes: int,
    tenant: str | None,
) -> events_pb2.PromptSubmitted:
    """A copy with its id, submission time and absolute deadline, and the `tenant` of its key, if it had to show one.

    Raises InvalidPrompt or PromptTooLarge.
    """
    admitted = events_pb2.PromptSubmitted()
    admitted.CopyFrom(prompt)
    admitted.request_id = request_id
    admitted.submitted_at_ms = now_ms
    admitted.deadline_ms = now_ms + round(timeout_s * 1000)
    if tenant is not None:
        admitted.tenant = tenant
    prompts.check(admitted, max_bytes=max_prompt_bytes)
    SamplingParams.from_proto(admitted.sampling)
    return admitted


def id_of(tenant: str | None, named: str) -> str:
    """What an id that a client chose is on the topics: a tenant's own, or another who calls it has the tenant's answer.

    No tenant's name has a slash.
    """
    return named if tenant is None or named.startswith(f"{tenant}/") else f"{tenant}/{named}"
