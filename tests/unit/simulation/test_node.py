"""One simulated node: what it does beside a batch that runs, and what it tells of itself meanwhile."""

import pytest

from coe.scheduling import make_policy
from coe.simulation.hardware import Hardware
from coe.simulation.node import Node, serve
from coe.simulation.trace import Trace

# A token takes 0.1 s, a load 2 s.
MACHINE = Hardware("m", 3, 100, link=0.5, step_s=0.1, sequence_s=0.0, prefill_s=0.0, overlap=True)


def test_an_expert_that_is_asked_for_meanwhile_is_there_when_the_batch_ends() -> None:
    trace = Trace([0.0, 5.0, 6.0], ["a", "b", "a"], [0] * 3, [100, 10, 10])
    served = serve(trace, MACHINE, make_policy("lookahead"), expert_bytes=1)
    # The first answer ends at 12: two seconds of load, ten of steps.
    assert served.waits == pytest.approx([2.0, 0.0, 7.0])
    assert served.ended_at == pytest.approx(13.0)
    in_turn = serve(trace, MACHINE, make_policy("samba-coe"), expert_bytes=1)
    assert in_turn.waits == pytest.approx([2.0, 9.0, 9.0])


def test_depths_are_of_prompts_that_have_arrived_and_not_ended() -> None:
    trace = Trace([0.0, 0.0, 1.0, 50.0], ["a", "a", "b", "a"], [0] * 4, [20, 60, 10, 10])
    node = Node(trace, MACHINE, make_policy("samba-coe"), expert_bytes=1, max_batch=1)
    assert node.depths() == {}
    depths = []
    for until in (3.0, 6.0, 11.0, 20.0):
        node.advance(until)
        depths.append(dict(node.depths()))
    assert depths == [{"a": 2, "b": 1}, {"a": 1, "b": 1}, {"b": 1}, {}]
    assert node.resident == {"a", "b"}
    assert len(node.run().latencies) == 4
