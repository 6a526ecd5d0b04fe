"""Figures of a benchmark are its result: on stdout, for people too."""

import pytest

from coe.cli import bench_backlog, bench_pipeline, bench_schedule, bench_telemetry


async def test_backlog(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def measured(_plan: bench_backlog.Plan) -> list[bench_backlog.Row]:
        return [bench_backlog.row(1, queued, [{"router": 1.0, "total": 1.0}]) for queued in (10, 100)]

    monkeypatch.setattr(bench_backlog, "_measure", measured)
    await bench_backlog.run(bench_backlog.Plan([10, 100], [1], 1, 10), as_json=False)
    printed = capsys.readouterr().out
    assert "1 workers, 100 queued" in printed
    assert "growth" in printed


def test_pipeline(capsys: pytest.CaptureFixture[str]) -> None:
    bench_pipeline._show(bench_pipeline.Result("echo-named", 10, 0, 1.0, 10.0, 0.0, 1.0, 0, {"router": 0.1}))
    assert "echo-named: 10 prompts/s" in capsys.readouterr().out


async def test_telemetry(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def rounds(*_: object) -> list[bench_telemetry.Round]:
        return [(1.0, 1.1, 1.2), (1.0, 1.1, 1.2)]

    monkeypatch.setattr(bench_telemetry, "_rounds", rounds)
    await bench_telemetry.run(2, 100, as_json=False)
    assert "ms_per_trace" in capsys.readouterr().out


@pytest.mark.parametrize("as_json", [True, False])
def test_schedule(capsys: pytest.CaptureFixture[str], *, as_json: bool) -> None:
    figures = {"prompts_s": 1.0, "sequences_per_step": 1.0, "cpu_s_per_prompt": 1.0, "switches": 1.0}
    found = {"policies": {bench_schedule.BASELINE: figures}, "bound_prompts_s": 2.0}
    bench_schedule._show("zipf", "host", found, bench_schedule.err if as_json else bench_schedule.out)
    assert ("samba-coe" in capsys.readouterr().out) is not as_json
