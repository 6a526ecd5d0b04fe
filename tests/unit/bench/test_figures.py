"""The arithmetic of the benchmarks, without measuring anything."""

from coe.bench.clock import median_rounds
from coe.bench.decode import DECODES, PREFILLS, tokens
from coe.bench.profile import by_op


def test_rounds_are_interleaved_and_the_first_is_not_counted() -> None:
    order: list[str] = []
    times = {"a": iter([99.0, 1.0, 3.0, 2.0]), "b": iter([99.0, 5.0, 5.0, 6.0])}

    def subject(name: str) -> float:
        order.append(name)
        return next(times[name])

    medians = median_rounds({"a": lambda: subject("a"), "b": lambda: subject("b")}, rounds=3)
    assert medians == {"a": 2.0, "b": 5.0}
    assert order == ["a", "b"] * 4


def test_tokens_of_a_case() -> None:
    assert [tokens(case, 64) for case in PREFILLS] == [128, 512]
    assert [tokens(case, 64) for case in DECODES] == [64, 256, 512] * 2


def test_a_profile_is_the_mean_of_the_last_runs() -> None:
    def node(op: str, ts: int, dur: int) -> dict[str, object]:
        return {"cat": "Node", "name": f"{op}_kernel_time", "ts": ts, "dur": dur, "args": {"op_name": op}}

    def model_run(ts: int, dur: int) -> dict[str, object]:
        return {"cat": "Session", "name": "model_run", "ts": ts, "dur": dur}

    events = [node("A", 1, 1000), model_run(0, 2000), node("A", 3001, 10), node("B", 3011, 4), model_run(3000, 20)]
    events += [node("A", 4001, 20), node("B", 4021, 4), model_run(4000, 30)]
    assert by_op(events, steps=2) == {"A": 15.0, "between": 6.0, "B": 4.0}
