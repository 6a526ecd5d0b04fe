"""A lower bound on the time to answer a trace on a machine that runs one expert at a time."""

from collections import defaultdict

from coe.simulation.hardware import Hardware
from coe.simulation.measured import Measured, at, envelope
from coe.simulation.trace import Trace


def shortest_s(trace: Trace, machine: Hardware, *, expert_bytes: int, max_batch: int) -> float:
    """Returns seconds that no schedule can beat, even one that knows every prompt in advance.

    The bound assumes that each expert is visited once and every copy overlaps execution, so it is the longer of all
    execution and one copy of each expert. An expert's decode takes at least as many steps as its longest answer has
    tokens, and at least as many as its tokens need in full batches. A step's time is convex in its number of sequences,
    so steps of equal size are optimal.
    """
    prompts: dict[str, list[int]] = defaultdict(list)
    answers: dict[str, list[int]] = defaultdict(list)
    for expert, asked, answered in zip(trace.experts, trace.prompt_tokens, trace.output_tokens, strict=True):
        prompts[expert].append(asked)
        answers[expert].append(answered)
    copies_s = len(answers) * machine.load_s(expert_bytes)
    measured = machine.measured
    execution_s = measured.copying * copies_s if measured else 0.0
    for expert, tokens in answers.items():
        steps = max(max(tokens), sum(tokens) / max_batch)
        if measured:
            execution_s += _visit_s(measured, steps, prompts[expert], sum(tokens), trace.shared_tokens)
        else:
            execution_s += steps * machine.decode_s(sum(tokens) / steps)
            execution_s += sum(machine.prefill_s + machine.token_s * asked for asked in prompts[expert])
    return max(execution_s, copies_s)


def _visit_s(measured: Measured, steps: float, prompts: list[int], answered: int, shared: int) -> float:
    """Returns the shortest duration of a visit.

    Every step, prefill or decode, costs the least that any step of as many tokens costs. The prompts' shared prefix is
    computed once, and the last token of an answer is never computed.
    """
    prefill = [(tokens, seconds + measured.between_s) for tokens, seconds in measured.prefill]
    best = envelope([*measured.decode, *prefill])
    computed = shared + sum(max(1, asked - shared) for asked in prompts) + answered - len(prompts)
    # Taking more steps than necessary can be cheaper where a step's time grows faster than its tokens.
    counts = [steps, *(computed / tokens for tokens, _ in best if computed / tokens > steps)]
    steps_s = min(count * at(best, computed / count) for count in counts)
    return measured.switch_s + len(prompts) * measured.prompt_s + steps_s
