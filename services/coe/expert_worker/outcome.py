"""Builds the messages that answer a prompt: stream chunks and the terminal event. Pure."""

import hashlib
from dataclasses import dataclass

from coe._proto import common_pb2, events_pb2
from coe.expert_worker.effects import Answer, Finish, Loading, Spent, Text
from coe.expert_worker.prompt import Prompt
from coe.experts.logprobs import TokenLogprob
from coe.platform import topics
from coe.platform.bus.api import Outcome, Outgoing
from coe.platform.errors import CoEError
from coe.platform.terminal import error_outcome


@dataclass(frozen=True, slots=True)
class Identity:
    """Where a prompt ran. `tier_profile` is the tier manager's; empty until the worker has attached."""

    worker: str
    node: str
    tier_profile: str = ""


def outcome(finish: Finish, identity: Identity, now_ms: int) -> Outcome:
    prompt, result = finish.prompt, finish.result
    timings = _timings(prompt, finish.spent)
    if isinstance(result, CoEError):
        return error_outcome(
            prompt.record,
            prompt.assigned.prompt,
            result,
            routing=_routing(prompt),
            assignment=prompt.assigned.assignment,
            timings=timings,
            attempt=prompt.attempt,
            worker=identity.worker,
            now_ms=now_ms,
        )
    completed = events_pb2.PromptCompleted(
        request_id=prompt.request_id,
        completion=_completion(prompt.request_id, result),
        routing=_routing(prompt),
        assignment=prompt.assigned.assignment,
        usage=_usage(result),
        timings=timings,
        tiers=_tiers(finish.spent, identity),
        attempt=prompt.attempt,
        worker=identity.worker,
        tenant=prompt.assigned.prompt.tenant,
        completed_at_ms=now_ms,
    )
    ended = Outgoing(topics.COMPLETIONS, prompt.request_id, completed, as_json=prompt.in_json)
    return Outcome(publish=(ended,))


def chunk(effect: Loading | Text) -> Outgoing:
    """A message for the tokens topic."""
    prompt = effect.prompt
    message = events_pb2.TokenChunk(request_id=prompt.request_id, attempt=prompt.attempt, sequence=effect.sequence)
    if isinstance(effect, Text):
        message.text.text, message.text.tokens = effect.text, effect.tokens
        message.text.logprobs.extend(map(_logprob, effect.logprobs))
    else:
        message.loading.expert_id, message.loading.tier = prompt.expert_id, effect.tier
    return Outgoing(topics.TOKENS, prompt.request_id, message, as_json=prompt.in_json)


def _routing(prompt: Prompt) -> common_pb2.RoutingDecision | None:
    return prompt.assigned.routing if prompt.assigned.HasField("routing") else None


def _completion(request_id: str, answer: Answer) -> events_pb2.PromptCompleted.Completion:
    calls = [
        common_pb2.ToolCall(id=call_id(request_id, index), name=call.name, arguments=call.arguments)
        for index, call in enumerate(answer.tool_calls)
    ]
    return events_pb2.PromptCompleted.Completion(
        text=answer.text,
        finish_reason=answer.finish_reason,
        tool_calls=calls,
        logprobs=map(_logprob, answer.logprobs),
        prompt_logprobs=map(_logprob, answer.prompt_logprobs),
    )


def _logprob(one: TokenLogprob) -> common_pb2.TokenLogprob:
    return common_pb2.TokenLogprob(token=one.token, logprob=one.logprob, likeliest=map(_logprob, one.likeliest))


def call_id(request_id: str, index: int) -> str:
    """Unique within a conversation, and the same whenever this prompt is answered again."""
    return f"call_{hashlib.blake2b(f'{request_id}/{index}'.encode(), digest_size=12).hexdigest()}"


def _usage(answer: Answer) -> common_pb2.Usage:
    return common_pb2.Usage(
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        cached_tokens=answer.cached_tokens,
    )


def _timings(prompt: Prompt, spent: Spent) -> common_pb2.Timings:
    return common_pb2.Timings(
        routing_s=prompt.assigned.routing_s,
        mapping_s=prompt.assigned.mapping_s,
        queue_s=spent.queue_s,
        load_s=spent.load_s,
        prefill_s=spent.prefill_s,
        decode_s=spent.decode_s,
        time_to_first_token_s=spent.time_to_first_token_s,
        total_s=spent.total_s,
    )


def _tiers(spent: Spent, identity: Identity) -> common_pb2.TierStats:
    return common_pb2.TierStats(
        found_in=spent.found_in,
        bytes_copied=spent.bytes_copied,
        copy_s=spent.copy_s,
        tier_profile=identity.tier_profile,
        modelled_copy_s=spent.modelled_copy_s,
        node=identity.node,
    )
