"""When a process may be started again."""

from hypothesis import given
from hypothesis import strategies as st

from coe.local.restart import NEVER, RestartHistory, RestartPolicy


def test_the_wait_doubles_up_to_its_bound_then_comes_the_end() -> None:
    history = RestartHistory(RestartPolicy(most=5, window_s=60, first_s=0.5, longest_s=3))
    assert [history.after_end(float(second)) for second in range(6)] == [0.5, 1.0, 2.0, 3.0, 3.0, None]
    assert history.restarts == 5


def test_old_ends_are_forgotten() -> None:
    history = RestartHistory(RestartPolicy(most=1, window_s=60, first_s=0.5))
    assert history.after_end(0.0) == 0.5
    assert history.after_end(60.0) == 0.5
    assert history.after_end(61.0) is None


def test_never_means_never() -> None:
    assert RestartHistory(NEVER).after_end(0.0) is None


@given(st.lists(st.floats(0, 30), max_size=40))
def test_a_crash_loop_is_always_given_up(pauses: list[float]) -> None:
    policy = RestartPolicy(most=3, window_s=60)
    history, now, ends = RestartHistory(policy), 0.0, []
    for pause in pauses:
        now += pause
        ends.append(now)
        recent = sum(end > now - policy.window_s for end in ends)
        assert (history.after_end(now) is None) == (recent > policy.most)
