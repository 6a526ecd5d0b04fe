"""Topic names. See docs/life-of-a-prompt.md for keys, messages, writers and readers."""

from coe.platform.bus.api import TopicSpec

PROMPTS = "coe.prompts.v1"
ROUTED = "coe.routed.v1"
ASSIGNMENTS = "coe.assignments.v1"
TOKENS = "coe.tokens.v1"
COMPLETIONS = "coe.completions.v1"
DEAD_LETTER = "coe.dead-letter.v1"
CANCELLATIONS = "coe.cancellations.v1"

_HOUR_MS = 3_600_000
_DAY = {"retention.ms": str(24 * _HOUR_MS), "max.message.bytes": str(2 * 1024 * 1024)}
# Any client may write prompts. With its own, old timestamp a prompt could be deleted as expired and go unanswered.
_PROMPTS = {**_DAY, "message.timestamp.type": "LogAppendTime"}
_SHORT = {"retention.ms": str(_HOUR_MS)}


def specs(partitions: int) -> tuple[TopicSpec, ...]:
    """All topics. `partitions` limits how many processes can share the work of a topic."""
    return (
        TopicSpec(PROMPTS, partitions, _PROMPTS),
        TopicSpec(ROUTED, partitions, _DAY),
        TopicSpec(ASSIGNMENTS, partitions, _DAY),
        TopicSpec(TOKENS, partitions, _SHORT),
        TopicSpec(COMPLETIONS, partitions, _DAY),
        TopicSpec(CANCELLATIONS, 1, _SHORT),
        TopicSpec(DEAD_LETTER, 1, {**_DAY, "retention.ms": str(7 * 24 * _HOUR_MS)}),
    )


SPECS = specs(partitions=8)
