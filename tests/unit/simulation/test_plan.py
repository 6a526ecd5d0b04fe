"""Plans: the highest rate is the highest, what breaks is named; experts that do not fit are refused."""

import json

import pytest
from typer.testing import CliRunner

from coe.cli.simulate import app
from coe.platform.errors import CapacityExceeded
from coe.simulation.hardware import LLAMA2_7B, SN40L_NODE, Hardware
from coe.simulation.plan import Wish, overlapping, plan

SLOW_LINK = Hardware("slow", 2, 100, link=2.0, step_s=0.01, sequence_s=0.0, prefill_s=0.01)


def wish(machine: Hardware, experts: int, expert_bytes: int = 1) -> Wish:
    return Wish(machine, 4, experts, expert_bytes, 400, "lookahead", 16, 1.0, p99_s=4.0)


def test_beyond_the_highest_rate_it_breaks() -> None:
    planned = plan(wish(overlapping(SN40L_NODE), 100, LLAMA2_7B), lambda rate: None)
    assert planned.breaks == "execution"
    at = {figures.rate: figures for figures in planned.figures}
    assert at[planned.highest_rate].p99_s <= 4.0
    assert max(at) > planned.highest_rate
    assert planned.holds == 4 * 890


def test_a_slow_link_breaks_first() -> None:
    assert plan(wish(overlapping(SLOW_LINK), 40), lambda rate: None).breaks == "copies"


def test_experts_that_do_not_fit() -> None:
    with pytest.raises(CapacityExceeded, match=r"500 experts do not fit: a node stores \d+, and there are \d+"):
        plan(wish(SLOW_LINK, 500), lambda rate: None)


def test_command() -> None:
    options = ["plan", "--nodes", "2", "--experts", "20", "--prompts", "200", "--p99", "2", "--json"]
    report = json.loads(CliRunner().invoke(app, options).stdout)
    assert report["highest_rate"] > 0
    assert {"node_hours", "p99_s", "executing"} <= report["figures"][0].keys()
