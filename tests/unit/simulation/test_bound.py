"""The bound is what a perfect schedule takes: no policy is faster, and a simple case is known by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coe.scheduling import POLICIES, make_policy
from coe.simulation.bound import shortest_s
from coe.simulation.hardware import Hardware
from coe.simulation.node import serve
from coe.simulation.trace import KINDS, Trace, make_trace

MACHINE = Hardware("m", 2, 100, link=4.0, step_s=0.1, sequence_s=0.02, prefill_s=0.05, overlap=True, floor_s=0.13)


def test_by_hand() -> None:
    trace = Trace([0.0] * 3, ["a", "a", "b"], [0] * 3, [2, 5, 4])
    seconds = 3 * 0.05 + 5 * 0.13 + 4 * 0.13
    assert shortest_s(trace, MACHINE, expert_bytes=1, max_batch=4) == pytest.approx(seconds)
    assert shortest_s(trace, MACHINE, expert_bytes=100, max_batch=4) == pytest.approx(2 * 25.0)


@pytest.mark.parametrize("policy", POLICIES)
@given(st.sampled_from(KINDS), st.integers(1, 60), st.integers(1, 9), st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_no_policy_is_faster(policy: str, kind: str, prompts: int, experts: int, seed: int) -> None:
    trace = make_trace(kind, prompts, experts, seed=seed).paced(0)
    served = serve(trace, MACHINE, make_policy(policy), expert_bytes=1, max_batch=4)
    assert served.ended_at >= shortest_s(trace, MACHINE, expert_bytes=1, max_batch=4) * (1 - 1e-9)


def test_published_systems_copy_before_they_run() -> None:
    trace = make_trace("cyclic", 40, 8).paced(0)
    samba = serve(trace, MACHINE, make_policy("samba-coe"), expert_bytes=1)
    alone = sum(0.05 + tokens * 0.13 for tokens in trace.output_tokens)
    assert samba.ended_at == pytest.approx(alone + 40 * 0.25)
