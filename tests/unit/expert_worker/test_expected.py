"""What the loop expects, from what it saw."""

import pytest

from coe.expert_worker.batch import Sequence
from coe.expert_worker.expected import Expected
from coe.scheduling import Exponential, LearnedCosts
from unit.expert_worker.worker_world import make_prompt


def test_steps_that_bring_several_tokens_end_answers_sooner() -> None:
    live = [Sequence(make_prompt("1", tokens=100), 0.0, 0.0, "hbm", None)]
    remaining = []
    for tokens in (1, 2):
        expected = Expected(LearnedCosts(lambda _: 0, 4), Exponential(), 4)
        for _ in range(500):
            expected.saw_step(1, tokens, 0.01)
        remaining.append(expected.remaining_s(live))
    assert remaining[1] == pytest.approx(remaining[0] / 2, rel=0.01)
