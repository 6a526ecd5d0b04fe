"""What the spans of a calibrating trace say, by hand."""

import pytest

from coe.bench.loads import lost_s
from coe.bench.meter import Span
from coe.bench.samples import Samples
from coe.bench.visits import ANSWER_TOKENS, PAIRS, read


def visit(expert: str, at: float, sequences: int = 1, *, step_s: float = 1.0, steps: int = ANSWER_TOKENS) -> list[Span]:
    """Prompts that are taken in within half a second; the next step begins a quarter after the one before has ended."""
    first = Span(expert, sequences, 0, sequences, 0.5, at, at + step_s)
    pitch_s = step_s + 0.25
    decodes = [(at + pitch_s * step, at + pitch_s * step + step_s) for step in range(1, steps)]
    return [first, *(Span(expert, sequences, sequences, 0, 0.0, began, ended) for began, ended in decodes)]


def test_each_gap_and_pitch_is_of_its_kind() -> None:
    firsts = [visit(f"first-{number}", 0.0, steps=1) for number in range(3)]
    pairs = [visit(f"pair-{number}", 0.0, step_s=2.0 - number % 2) for number in range(2 * PAIRS)]
    one = visit("a", 100.0, 4)
    other = visit("b", one[-1].ended + 0.75, 8)
    samples = Samples()
    read([span for spans in (*firsts, *pairs, one, other) for span in spans], len(firsts), samples)
    assert samples.woken == pytest.approx([ANSWER_TOKENS * 1.0] * PAIRS), "the first of a pair had steps twice as long"
    assert samples.decode[1] == pytest.approx([2.25, 1.25] * PAIRS)
    assert samples.decode[4] == samples.decode[8] == pytest.approx([1.25])
    assert samples.between == pytest.approx([0.25, 0.25])
    assert samples.switch == pytest.approx([0.25]), "taking the prompts in is not the switch's"
    assert samples.taken == pytest.approx([0.5 / 4, 0.5 / 8])


def test_a_few_steps_make_no_pitch() -> None:
    pairs = [visit(f"pair-{number}", 0.0) for number in range(2 * PAIRS)]
    samples = Samples()
    read([span for spans in (*pairs, visit("a", 100.0, 4, steps=5)) for span in spans], 0, samples)
    assert 4 not in samples.decode


def test_what_loads_take_is_told_by_first_steps_of_lone_prompts() -> None:
    skipped, late, several, on_time = (
        visit("a", 0.0),
        visit("b", 50.0, step_s=3.0),
        visit("c", 99.0, 2),
        visit("d", 150.0),
    )
    spans = [span for one in (skipped, late, several, on_time) for span in one]
    assert lost_s(spans, 1, alone_s=1.0) == pytest.approx(2.0)
