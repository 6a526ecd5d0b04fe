"""Admits prompts to the Kafka path: fills in the id, times and tenant, and validates the result."""

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
    """Returns a copy of the prompt with its id, submission time and absolute deadline.

    Sets `tenant` to the API key's tenant if keys are required. Raises InvalidPrompt or PromptTooLarge.
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
    """Scopes a client-chosen request id to its tenant, so that no other tenant can get its answer.

    Unambiguous because tenant names contain no slash.
    """
    return named if tenant is None or named.startswith(f"{tenant}/") else f"{tenant}/{named}"
