"""How fast a trace could be answered at best, on a machine that runs one expert at a time."""

from collections import defaultdict

from coe.simulation.hardware import Hardware
from coe.simulation.trace import Trace


def shortest_s(trace: Trace, machine: Hardware, *, expert_bytes: int, max_batch: int) -> float:
    """Seconds that no schedule of these prompts can beat, all of them known at the start.

    Each expert is visited once and every copy runs behind execution: what lasts longer counts, all execution or one
    copy of each expert. An expert's decode takes as many steps as its longest answer has tokens, or as its tokens need
    in full batches; as a step's time is convex in its sequences, none are better than equal ones.
    """
    answers: dict[str, list[int]] = defaultdict(list)
    execution_s = 0.0
    for expert, asked, answered in zip(trace.experts, trace.prompt_tokens, trace.output_tokens, strict=True):
        answers[expert].append(answered)
        execution_s += machine.prefill_s + machine.token_s * asked
    for tokens in answers.values():
        steps = max(max(tokens), sum(tokens) / max_batch)
        execution_s += steps * machine.decode_s(sum(tokens) / steps)
    return max(execution_s, len(answers) * machine.load_s(expert_bytes))
