"""Hanging calls time out, and their number is bounded."""

import threading
import time

import pytest

from coe.expert_worker import bounded
from coe.expert_worker.bounded import Bounded
from coe.platform.errors import ExpertNotFound, TierLoadError

WAIT_S = 10.0


def until_over(calls: Bounded) -> None:
    end = time.monotonic() + WAIT_S
    while calls._calls:
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_call_returns_its_result_or_raises_its_error() -> None:
    calls = Bounded(patience_s=WAIT_S)

    def missing() -> None:
        raise ExpertNotFound("none")

    assert calls.call("a", lambda: 7) == 7
    with pytest.raises(ExpertNotFound):
        calls.call("a", missing)
    until_over(calls)


def test_a_hanging_call_times_out_and_is_not_repeated_before_it_ends() -> None:
    calls, gate, made = Bounded(patience_s=0.02), threading.Event(), []

    def hang() -> int:
        made.append(1)
        assert gate.wait(WAIT_S)
        return 1

    for _ in range(3):
        with pytest.raises(TierLoadError, match="a: the file system is not responding"):
            calls.call("a", hang)
    calls._patience_s = WAIT_S  # a busy machine may take its time for what does not hang
    assert calls.call("b", lambda: 2) == 2, "others are answered"
    assert len(made) == 1
    gate.set()
    until_over(calls)
    assert calls.call("a", hang) == 1


def test_the_number_of_hanging_calls_is_bounded() -> None:
    calls, gate = Bounded(patience_s=0.01, max_calls=3), threading.Event()
    for number in range(3):
        with pytest.raises(TierLoadError):
            calls.call(str(number), lambda: gate.wait(WAIT_S))
    with pytest.raises(TierLoadError, match="3 calls are already hanging"):
        calls.call("more", lambda: 1)
    gate.set()
    until_over(calls)
    calls._patience_s = WAIT_S
    assert calls.call("more", lambda: 1) == 1


def test_a_thread_is_reused_and_ends_when_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Bounded(patience_s=WAIT_S)
    first = calls.call("a", threading.current_thread)
    assert calls.call("b", threading.current_thread) is first
    monkeypatch.setattr(bounded, "IDLE_S", 0.01)
    assert calls.call("c", threading.current_thread) is first
    first.join(WAIT_S)
    assert not first.is_alive()
    assert calls.call("d", threading.current_thread) is not first
