"""What a backlog's figures say: cost without idling, and how far from flat it is."""

import pytest

from coe.cli.bench_backlog import Row, broker, difference, per_prompt, row, summary


def figure(workers: int, queued: int, total: float) -> Row:
    return Row(workers, queued, {"kafka": total, "total": total, "client": 5.0}, 1.0)


def test_what_is_spent_anyway_is_taken_off_and_never_below_nothing() -> None:
    before, after = {"kafka": 1.0, "router": 2.0}, {"kafka": 5.0, "router": 2.1, "mapper": 0.5}
    spent = difference(before, after, idle={"kafka": 0.1, "router": 0.02}, seconds=10)
    assert spent == pytest.approx({"kafka": 3.0, "router": 0.0, "mapper": 0.5})


def test_the_total_leaves_the_client_out() -> None:
    assert per_prompt({"client": 1.0, "kafka": 2.0, "router": 0.5}, 1000) == {
        "client": 1.0,
        "kafka": 2.0,
        "router": 0.5,
        "total": 2.5,
    }


def test_flat_is_one_and_growth_is_of_the_longest_queue() -> None:
    rows = [figure(1, 10, 4.0), figure(1, 1000, 2.0), figure(4, 10, 5.0), figure(4, 1000, 3.0)]
    assert summary(rows) == {
        "by_workers": {1: 2.0, 4: 1.667},
        "by_queued": {10: 1.25, 1000: 1.5},
        "growth": {10: 0.6},
    }


def test_a_figure_is_the_median_and_tells_its_spread() -> None:
    rounds = [{"kafka": 1.0, "total": 2.0}, {"kafka": 3.0, "total": 3.0}, {"kafka": 2.0, "total": 8.0}]
    assert row(2, 10, rounds) == Row(2, 10, {"kafka": 2.0, "total": 3.0}, 4.0)


def test_what_java_is_told_already_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_JAVA_OPTIONS", "-Xmx1g")
    assert broker()["_JAVA_OPTIONS"].split() == ["-Xmx1g", "-XX:TieredStopAtLevel=4"]
