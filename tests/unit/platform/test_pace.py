"""How often transactions begin."""

from itertools import pairwise

import pytest

from coe.platform.bus.kafka.pace import AHEAD, LEAST_S, SUSTAINED_S, Pace


def begins(pace: Pace, wanted: list[float], carried: int = 2) -> list[float]:
    """When transactions begin that are wanted at these times."""
    found = []
    for at in wanted:
        found.append(max(at, pace.next_at(), *found[-1:]))
        pace.begun(found[-1], carried)
    return found


def test_what_comes_alone_begins_at_once() -> None:
    wanted = [1.0, 1.0 + SUSTAINED_S, 3.0, 100.0]
    assert begins(Pace(0.0), wanted) == wanted


def test_a_first_transaction_does_not_wait() -> None:
    assert begins(Pace(5.0), [5.0]) == [5.0]


def test_two_are_never_closer_than_the_markers_take() -> None:
    found = begins(Pace(0.0), [1.0] * 3)
    assert [later - earlier for earlier, later in pairwise(found)] == pytest.approx([LEAST_S] * 2)


def test_a_busy_process_slows_down_to_the_sustained_rate() -> None:
    found = begins(Pace(0.0), [1.0] * 100)
    steps = [later - earlier for earlier, later in pairwise(found)]
    assert steps[-80:] == pytest.approx([SUSTAINED_S] * 80)
    assert found[-1] - found[0] == pytest.approx((99 - AHEAD) * SUSTAINED_S)


def test_who_asks_one_after_the_other_is_not_slowed_down() -> None:
    wanted = [1.0 + index * 1.5 * LEAST_S for index in range(1000)]
    assert begins(Pace(0.0), wanted, carried=1) == pytest.approx(wanted)


def test_a_rest_gives_the_first_ones_their_speed_again() -> None:
    pace = Pace(0.0)
    begins(pace, [1.0] * 100)
    found = begins(pace, [60.0] * 3)
    assert found == pytest.approx([60.0, 60.0 + LEAST_S, 60.0 + 2 * LEAST_S])
