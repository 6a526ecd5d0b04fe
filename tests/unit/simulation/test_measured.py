"""A machine of measured curves: what the simulator makes of them, by hand."""

import json
from dataclasses import asdict, replace

import pytest

from coe.platform.errors import ArtifactError
from coe.scheduling import make_policy
from coe.simulation.hardware import HOST, Hardware, read_calibration
from coe.simulation.measured import Measured, at, envelope
from coe.simulation.node import serve
from coe.simulation.trace import Trace

MEASURED = Measured(
    decode=((1, 1.0), (2, 1.5), (4, 2.0)),
    prefill=((8, 4.0), (16, 6.0), (32, 10.0)),
    between_s=0.5,
    switch_s=0.25,
    prompt_s=0.125,
    wake_s=0.0,
    first_link=0.5,
    fresh_link=0.25,
    touch_s=3.0,
    copying=0.0,
)
# Room for one expert: each load but the first is into memory that was used.
MACHINE = Hardware("m", 1, 10, link=1.0, step_s=9.0, sequence_s=9.0, prefill_s=9.0, overlap=True, measured=MEASURED)


def visit(trace: Trace, machine: Hardware = MACHINE, policy: str = "lookahead") -> float:
    return serve(trace, machine, make_policy(policy), expert_bytes=1, max_batch=4).ended_at


def test_a_curve_is_straight_between_its_points_and_beyond_the_last() -> None:
    assert [at(MEASURED.decode, n) for n in (0.5, 1, 1.5, 3, 4, 6)] == [1.0, 1.0, 1.25, 1.75, 2.0, 2.5]
    assert at(((5, 2.0),), 9) == 2.0


def test_the_envelope_is_convex_and_below() -> None:
    points = ((1, 1.0), (2, 3.0), (3, 3.2), (4, 6.0), (4, 7.0))
    hull = envelope(points)
    assert hull == ((1, 1.0), (3, 3.2), (4, 6.0))
    assert all(at(hull, n) <= seconds for n, seconds in points)


def test_a_lone_prompt() -> None:
    """Taken in, computed in a step that draws its first token, first read of new memory; then decode."""
    alone = Trace([0.0], ["a"], [16], [5])
    assert visit(alone) == pytest.approx(0.25 + 0.125 + 3.0 + (6.0 + 0.5) + 4 * 1.0)


def test_a_slower_machine_executes_slower_and_copies_as_before() -> None:
    alone = Trace([0.0], ["a"], [16], [5])
    slower = replace(MACHINE, measured=MEASURED.slower(2.0))
    assert visit(alone, slower) == pytest.approx(2.0 * visit(alone))
    copied = replace(slower, measured=replace(slower.measured, fresh_link=0.01))
    assert visit(alone, copied) == pytest.approx(2 * 0.25 + 100.0 + 2 * 4 * 1.0)


def test_the_copy_of_new_memory_may_be_what_lasts() -> None:
    slow = replace(MACHINE, measured=replace(MEASURED, fresh_link=0.01))
    assert visit(Trace([0.0], ["a"], [16], [5]), slow) == pytest.approx(0.25 + 100.0 + 4 * 1.0)


def test_what_a_load_takes_of_execution_is_paid_once() -> None:
    """Two visits, one of which the expert is still there for."""
    asking = replace(MACHINE, measured=replace(MEASURED, ask_s=10.0))
    trace = Trace([0.0, 1000.0], ["a", "a"], [16, 16], [5, 5])
    assert visit(trace, asking) == pytest.approx(visit(trace))
    assert visit(Trace([0.0], ["a"], [16], [5]), asking) == pytest.approx(10.0 + visit(Trace([0.0], ["a"], [16], [5])))


def test_prompts_that_begin_alike_compute_it_once() -> None:
    """In one step, the first prompt whole and the rest of the second."""
    both = Trace([0.0, 0.0], ["a", "a"], [16, 16], [4, 4], shared_tokens=9)
    prefill_s = 2 * 0.125 + 3.0 + (at(MEASURED.prefill, 16 + 7) + 0.5)
    assert visit(both) == pytest.approx(0.25 + prefill_s + 3 * 1.5)


def test_a_copy_takes_its_part_of_execution() -> None:
    """The first visit's copy is under way for four seconds, in which a quarter of execution is lost."""
    shared = replace(MACHINE, measured=replace(MEASURED, copying=0.25))
    alone = Trace([0.0], ["a"], [16], [5])
    assert visit(alone, shared) == pytest.approx(visit(alone) + 0.25 * 4.0)


def test_a_visit_after_a_pause_takes_longer() -> None:
    sleepy = replace(MACHINE, measured=replace(MEASURED, wake_s=0.75))
    trace = Trace([0.0, 100.0], ["a", "a"], [16, 16], [5, 5])
    assert visit(trace, sleepy) == pytest.approx(visit(trace) + 0.75)


def test_first_loads_come_from_the_store() -> None:
    """Copied before it runs: new memory at 0.25 a second, the second expert's first at 0.5, then 1."""
    trace = Trace([0.0, 100.0, 200.0], ["a", "b", "a"], [16, 16, 16], [1, 1, 1])
    served = serve(trace, MACHINE, make_policy("samba-coe"), expert_bytes=1)
    assert served.waits == pytest.approx([0.25 + 4.0, 0.25 + 2.0, 0.25 + 1.0])


def test_a_calibration_is_read_as_it_was_printed(tmp_path) -> None:
    machine = replace(HOST, measured=MEASURED)
    file = tmp_path / "calibration.json"
    file.write_text(json.dumps({"hardware": asdict(machine)}))
    assert read_calibration(file) == machine
    without = {"hardware": asdict(machine) | {"measured": {"decode": 1}}}
    for broken in ("{}", json.dumps(without), "[" * 100_000):
        file.write_text(broken)
        with pytest.raises(ArtifactError, match="is not a calibration"):
            read_calibration(file)
    with pytest.raises(ArtifactError, match=r"can't read .*: No such file"):
        read_calibration(tmp_path / "none.json")
