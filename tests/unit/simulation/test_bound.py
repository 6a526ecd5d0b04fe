"""The bound is what a perfect schedule takes: no policy is faster, and a simple case is known by hand."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coe.scheduling import POLICIES, make_policy
from coe.simulation.bound import shortest_s
from coe.simulation.hardware import Hardware
from coe.simulation.measured import Measured
from coe.simulation.node import serve
from coe.simulation.trace import KINDS, Trace, make_trace

MACHINE = Hardware("m", 2, 100, link=4.0, step_s=0.1, sequence_s=0.02, prefill_s=0.05, overlap=True, floor_s=0.13)
# Its steps grow by leaps, as real ones do.
MEASURED = replace(
    MACHINE,
    measured=Measured(
        decode=((1, 0.1), (2, 0.11), (3, 0.16), (4, 0.17)),
        prefill=((8, 0.12), (24, 0.2), (64, 0.5), (128, 0.8)),
        between_s=0.01,
        switch_s=0.02,
        prompt_s=0.004,
        wake_s=0.01,
        first_link=2.0,
        fresh_link=1.0,
        touch_s=0.05,
        copying=0.4,
    ),
)


def test_by_hand() -> None:
    trace = Trace([0.0] * 3, ["a", "a", "b"], [0] * 3, [2, 5, 4])
    seconds = 3 * 0.05 + 5 * 0.13 + 4 * 0.13
    assert shortest_s(trace, MACHINE, expert_bytes=1, max_batch=4) == pytest.approx(seconds)
    assert shortest_s(trace, MACHINE, expert_bytes=100, max_batch=4) == pytest.approx(2 * 25.0)


@pytest.mark.parametrize("machine", [MACHINE, MEASURED], ids=["line", "measured"])
@pytest.mark.parametrize("policy", POLICIES)
@given(st.sampled_from(KINDS), st.integers(1, 60), st.integers(1, 9), st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_no_policy_is_faster(policy: str, machine: Hardware, kind: str, prompts: int, experts: int, seed: int) -> None:
    trace = replace(make_trace(kind, prompts, experts, seed=seed).paced(0), shared_tokens=16 * (seed % 2))
    served = serve(trace, machine, make_policy(policy), expert_bytes=1, max_batch=4)
    assert len(served.latencies) == prompts
    assert served.ended_at >= shortest_s(trace, machine, expert_bytes=1, max_batch=4) * (1 - 1e-9)


def test_published_systems_copy_before_they_run() -> None:
    trace = make_trace("cyclic", 40, 8).paced(0)
    samba = serve(trace, MACHINE, make_policy("samba-coe"), expert_bytes=1)
    alone = sum(0.05 + tokens * 0.13 for tokens in trace.output_tokens)
    assert samba.ended_at == pytest.approx(alone + 40 * 0.25)
