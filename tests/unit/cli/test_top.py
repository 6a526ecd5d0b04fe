"""What `coe top` makes of two looks at a manager."""

import io

from rich.console import Console

from coe._proto import memory_tier_manager_pb2 as pb
from coe.cli.top import Rates, page

MIB = 1 << 20


def look(**counters: int) -> pb.ListResidencyResponse:
    usage = pb.TierUsage(tier=pb.TIER_HBM, capacity_bytes=8 * MIB, used_bytes=6 * MIB, **counters)
    expert = pb.ExpertResidency(
        expert_id="a", tier=pb.TIER_HBM, state=pb.RESIDENCY_STATE_RESIDENT, bytes=4 * MIB, leases=2, slot=3
    )
    return pb.ListResidencyResponse(node="node-0", tiers=[usage], experts=[expert])


def shown(first: pb.ListResidencyResponse, second: pb.ListResidencyResponse, seconds: float) -> str:
    rates, console = Rates(), Console(width=140, record=True, file=io.StringIO())
    page(first, rates, seconds, {})
    console.print(page(second, rates, seconds, {"w": {"a": 5}}))
    return console.export_text()


def test_rates_are_those_between_two_looks() -> None:
    text = shown(
        look(bytes_in=0, evictions=0, hits=10, misses=10), look(bytes_in=8 * MIB, evictions=1, hits=16, misses=12), 2.0
    )
    assert "2 leases held, 4.0/s new; switches 1.00/s; hits 75% now, 57% ever" in text
    assert "4.0" in text
    assert "0.50" in text
    (row,) = (line for line in text.splitlines() if "resident" in line)
    assert [cell.strip() for cell in row.strip("│ ").split("│")] == ["a", "HBM", "resident", "3", "2", "5", "", "4"]


def test_bytes_moved_in_the_time_of_other_machines() -> None:
    ddr = pb.TierUsage(tier=pb.TIER_DDR, capacity_bytes=8 * MIB, bytes_in=7 * 10**9)
    now = look(bytes_in=400 * 10**9)
    now.tiers.append(ddr)
    assert "moved 7.00 GB into DDR, 400.00 GB into HBM: 3.00 s on sn40l, 1.40 s on sn40l-node" in shown(now, now, 1.0)


def test_experts_are_told_apart_on_a_narrow_terminal() -> None:
    listed = look()
    listed.experts[0].expert_id = "smollm2-135m@replica-1"
    console = Console(width=60, file=io.StringIO())
    with console.capture() as captured:
        console.print(page(listed, Rates(), 1.0, {}))
    experts = captured.get().partition("moved")[2]
    cells = [line.split("│")[1].strip() for line in experts.splitlines() if line.startswith("│")]
    assert "".join(cells) == "smollm2-135m@replica-1"


def test_a_manager_that_gave_no_lease_has_no_rates() -> None:
    assert "hits - now, - ever" in shown(look(), look(), 1.0)
