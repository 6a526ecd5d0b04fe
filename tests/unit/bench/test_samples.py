"""From measurements to the simulator's machine, without measuring anything."""

import pytest

from coe.bench.meter import Meter, Span
from coe.bench.questions import unlike
from coe.bench.samples import BESIDE_TOKENS, Samples, fitted
from coe.bench.validation import slowness, unsteadiness
from coe.platform.errors import Unavailable


def samples() -> Samples:
    found = Samples()
    found.decode[1] += [0.004, 0.005, 0.050]
    found.decode[4] += [0.008]
    found.prefill[BESIDE_TOKENS] += [0.030]
    found.again += [0.1]
    found.first += [0.2]
    found.fresh += [0.5]
    found.touched += [0.050]
    found.beside += [(0.1, 0.05), (0.3, 0.15)]
    found.loads += [0.070]
    found.between += [0.001]
    found.switch += [0.002]
    found.taken += [0.003]
    found.woken += [0.010, -0.002, 0.013]
    return found


def test_the_machine_that_was_measured() -> None:
    machine = fitted(samples(), expert_bytes=1000)
    measured = machine.measured
    assert measured is not None
    assert machine.load_s(1000) == pytest.approx(0.1)
    assert machine.first_load_s(1000) == pytest.approx(0.2)
    assert machine.fresh_load_s(1000) == pytest.approx(0.5)
    # A moment in which the machine did something else counts as twice the usual.
    assert [n for n, _ in measured.decode] == [1, 4]
    assert [seconds for _, seconds in measured.decode] == pytest.approx([(0.004 + 0.005 + 0.010) / 3, 0.008])
    assert measured.prefill == ((BESIDE_TOKENS, pytest.approx(0.030)),)
    assert measured.touch_s == pytest.approx(0.020)
    assert measured.copying == pytest.approx(0.5)
    # Beside half of the copy's time.
    assert measured.ask_s == pytest.approx(0.020)
    assert measured.wake_s == pytest.approx(0.010)


def test_a_larger_step_takes_no_less() -> None:
    found = samples()
    found.decode[8] += [0.006, 0.006]
    found.decode[16] += [0.020]
    measured = fitted(found, expert_bytes=1000).measured
    assert measured is not None
    assert [n for n, _ in measured.decode] == [1, 4, 8, 16]
    assert [seconds for _, seconds in measured.decode[1:]] == pytest.approx([0.020 / 3, 0.020 / 3, 0.020])


def test_samples_of_two_calibrations_count_alike() -> None:
    both, other = samples(), samples()
    other.decode[2] += [0.006]
    both.add(other)
    assert both.decode[1] == [0.004, 0.005, 0.050] * 2
    assert both.decode[2] == [0.006]
    assert both.beside == [(0.1, 0.05), (0.3, 0.15)] * 2


def test_what_is_missing_is_said() -> None:
    found = samples()
    found.switch.clear()
    with pytest.raises(Unavailable, match="too slow"):
        fitted(found, expert_bytes=1000)


def decode(at: float, seconds: float, sequences: int = 1) -> Span:
    return Span("a", sequences, sequences, 0, 0.0, at, at + seconds)


def test_unsteadiness_is_by_the_second_of_lone_decodes() -> None:
    steps = [decode(second + 0.01 * step, 0.004 * (1 + second)) for second in range(2) for step in range(20)]
    assert unsteadiness(Meter(steps).lone) == pytest.approx(1.9 / 1.1)
    few = Meter([*steps[:20], decode(5.0, 1.0), *(decode(6.0, 1.0, 2) for _ in range(20))])
    assert unsteadiness(few.lone) == 1.0
    assert unsteadiness([]) == 1.0


def test_slowness_is_of_the_seconds_from_decode_step_to_decode_step() -> None:
    curve = ((1.0, 0.010), (4.0, 0.040))
    lone = [decode(0.011 * step, 0.005) for step in range(41)]
    four = [decode(10 + 0.050 * step, 0.005, 4) for step in range(11)]
    assert slowness([*lone, *four], curve) == pytest.approx((0.44 + 0.5) / (0.4 + 0.4))
    stopped = [decode(20 + step + (100 if step > 5 else 0), 0.5) for step in range(12)]
    assert slowness(stopped, ((1.0, 1.0),)) == pytest.approx(12 / 11), "a stop counts as twice the median"
    assert slowness([Span("a", 1, 0, 1, 0.0, float(at), at + 0.5) for at in range(20)], curve) == 1.0, "no decode steps"


def test_prompts_differ_from_their_number_on() -> None:
    assert len({unlike(index)[: len("Number 100")] for index in range(101)}) == 101
