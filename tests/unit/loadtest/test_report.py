"""What a report says at its edges: nothing answered, nothing sent, some given up."""

import io
import json
from datetime import UTC, datetime
from importlib.metadata import version
from os import cpu_count

import pytest
from rich.console import Console

from loadtest import page, plots
from loadtest.cost import GENERATOR
from loadtest.loadprofile import Phase, Profile
from loadtest.recorder import Sample, summarise
from loadtest.report import Result, print_result
from loadtest.steps import steps

PROFILE = Profile(name="test", phases=(Phase(duration_s=1, rate=1), Phase(duration_s=1, rate=2)))
COST = {GENERATOR: {"cpu_ms_per_prompt": 1.0}, "router": {"cpu_ms_per_prompt": 3.0}}
LOST = [Sample(n / 2, 0.002, None, 60.0, error="lost", why="[gone] away", phase=n // 2) for n in range(4)]


def result(samples: list[Sample], cost: dict[str, dict[str, float]], tokens: float = 0.0) -> Result:
    return Result(PROFILE, "kafka", summarise(samples), cost, tokens, tuple(steps(PROFILE, samples)))


def printed(shown: Result) -> str:
    text = io.StringIO()
    print_result(Console(file=text, width=120), shown)
    return text.getvalue()


def test_a_report_says_when_and_with_what() -> None:
    began = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
    shown = Result(PROFILE, "kafka", summarise([Sample(0.1, 0, 0.1, 0.2)]), {}, began=began)
    made = version("composition-of-experts")
    told = shown.to_json()
    assert (told["began"], told["version"], told["cores"]) == ("2026-05-04T03:02:01+00:00", made, cpu_count())
    assert f"2026-05-04 03:02 UTC, composition-of-experts {made}, {cpu_count()} cores" in page.render(shown, [])


def test_a_run_that_answers_nothing_has_a_report() -> None:
    shown = result(LOST, COST)
    assert shown.saturated_at == 0
    assert shown.note == "", "the generator was not late"
    for text in (page.render(shown, LOST), printed(shown)):
        assert "[gone] away" in text
    assert "failed" in plots.over_time(LOST, [])
    assert json.loads(json.dumps(shown.to_json()))["reasons"] == {"lost": "[gone] away"}


def test_a_run_in_which_nothing_was_due_says_so() -> None:
    shown = result([], COST)
    assert shown.complaints == ["no prompt was scheduled in a measured phase: rate times duration is too small"]
    assert "no prompt was scheduled" in page.render(shown, [])
    assert "no prompt was scheduled" in printed(shown)


def test_waiting_for_a_lost_prompt_makes_no_rate_smaller() -> None:
    good = [Sample(n / 10, 0.0, 0.1, 0.1, tokens=2) for n in range(20)]
    summary = summarise([*good, Sample(1.9, 0.0, None, 60.0, error="lost")])
    assert summary.span_s == pytest.approx(2.0)
    assert (summary.throughput, summary.tokens_per_s) == (pytest.approx(10), pytest.approx(20))


def test_a_token_costs_what_failed_prompts_cost_too() -> None:
    """Ten prompts of 3 ms, of which half made four tokens each."""
    shown = result([Sample(0.0, 0.0, 0.1, 0.1, tokens=4)] * 5 + [Sample(0.0, 0.0, error="lost")] * 5, COST, 20 / 10)
    assert shown.cpu_ms_per_token == pytest.approx(30 / 20)
    assert result(LOST, COST).cpu_ms_per_token is None


def test_switches_are_not_told_where_nobody_says_who_answered() -> None:
    unknown = result([Sample(0.0, 0.0, 0.1, 0.1, expert="a")], {})
    assert unknown.summary.switches is None
    assert "<b>-</b>expert switches" in page.render(unknown, [])
    assert result([Sample(0.0, 0.0, 0.1, 0.1, expert="a", worker="w")], {}).summary.switches == 0


def test_where_it_saturates_is_printed_and_in_the_object() -> None:
    kept = result(
        [Sample(0.5, 0.0, 0.01, 0.01), *[Sample(1.2 + n / 3, 0.0, 0.01, 0.01, phase=1) for n in range(2)]], {}
    )
    assert "saturation: not reached" in printed(kept)
    assert kept.to_json()["saturated_at"] is None
    assert [step["offered"] for step in kept.to_json()["steps"]] == [1.0, 2.0]  # type: ignore[attr-defined]
    assert "saturation: 0.0 prompts/s" in printed(result(LOST, {}))
