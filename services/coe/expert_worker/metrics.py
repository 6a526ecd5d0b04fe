"""The worker's OpenTelemetry metrics, and the attributes of a prompt's span."""

from opentelemetry.trace import Span

from coe.expert_worker.effects import Answer, Finish, Grant
from coe.platform.telemetry import names
from coe.platform.telemetry.registry import counter, histogram

_PROVIDER = "coe"


class WorkerMetrics:
    """The instruments of one worker."""

    def __init__(self) -> None:
        self._duration = histogram("gen_ai.server.request.duration")
        self._first_token = histogram("gen_ai.server.time_to_first_token")
        self._per_token = histogram("gen_ai.server.time_per_output_token")
        self._tokens = histogram("gen_ai.client.token.usage")
        self._wait = histogram("coe.queue.wait.duration")
        self._load = histogram("coe.expert.load.wait.duration")
        self._hits = counter("coe.cache.hit")
        self._misses = counter("coe.cache.miss")
        self._guessed = counter("coe.tokens.guessed")
        self._right = counter("coe.tokens.guessed.right")
        self._cached = counter("coe.tokens.cached")
        self._switches = counter("coe.expert.switch.count")
        self._last: str | None = None

    def granted(self, expert_id: str, grant: Grant, waited_s: float) -> None:
        attributes = {names.COE_EXPERT: expert_id}
        self._load.record(waited_s, {**attributes, names.COE_TIER: grant.found_in})
        (self._hits if grant.found_in == "hbm" else self._misses).add(1, attributes)
        if expert_id != self._last:
            self._switches.add(1)
            self._last = expert_id

    def finished(self, finish: Finish, span: Span) -> None:
        """Records the end of a prompt, in metrics and on its span."""
        expert, spent, result = finish.prompt.expert_id, finish.spent, finish.result
        attributes = {
            names.GEN_AI_OPERATION: "chat",
            names.GEN_AI_PROVIDER: _PROVIDER,
            names.GEN_AI_REQUEST_MODEL: expert,
        }
        span.set_attributes(attributes | {names.COE_REQUEST_ID: finish.prompt.request_id, names.COE_EXPERT: expert})
        self._wait.record(spent.queue_s, attributes)
        if not isinstance(result, Answer):
            self._duration.record(spent.total_s, {**attributes, names.ERROR_TYPE: result.code})
            span.set_attribute(names.ERROR_TYPE, result.code)
            return
        self._duration.record(spent.total_s, attributes)
        if result.completion_tokens:
            self._first_token.record(spent.time_to_first_token_s, attributes)
        if result.completion_tokens > 1:
            self._per_token.record(spent.decode_s / (result.completion_tokens - 1), attributes)
        if result.guessed:
            self._guessed.add(result.guessed, {names.COE_EXPERT: expert})
            self._right.add(result.right, {names.COE_EXPERT: expert})
        self._cached.add(result.cached_tokens, {names.COE_EXPERT: expert})
        self._tokens.record(result.prompt_tokens, {**attributes, "gen_ai.token.type": "input"})
        self._tokens.record(result.completion_tokens, {**attributes, "gen_ai.token.type": "output"})
        span.set_attributes(
            {
                names.GEN_AI_INPUT_TOKENS: result.prompt_tokens,
                names.GEN_AI_CACHED_TOKENS: result.cached_tokens,
                names.GEN_AI_OUTPUT_TOKENS: result.completion_tokens,
                names.GEN_AI_FINISH_REASONS: [result.finish_reason],
                names.COE_TIER: spent.found_in,
            }
        )
