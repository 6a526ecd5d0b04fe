"""What the worker derives from the residency that the tier manager reports."""

import pytest

from coe.expert_worker.effects import Residency
from coe.expert_worker.resident import Resident


def resident(load_s: float = 0.1) -> Resident:
    return Resident(lambda _: load_s)


def test_experts_are_those_in_hbm_or_loading() -> None:
    known = resident()
    for residency, there in (
        (Residency.LOADING, True),
        (Residency.RESIDENT, True),
        (Residency.LEAVING, False),
        (Residency.RESIDENT, True),
        (Residency.ABSENT, False),
    ):
        known.changed("a", residency, 0.0)
        assert (known.experts == {"a"}) is there, residency


def test_only_a_successful_load_has_a_duration() -> None:
    known = resident()
    assert known.changed("a", Residency.LOADING, 100.0) is None
    assert known.changed("a", Residency.LOADING, 101.0) is None
    assert known.changed("a", Residency.RESIDENT, 102.0) == 2.0
    assert known.changed("a", Residency.RESIDENT, 103.0) is None
    known.changed("a", Residency.LOADING, 104.0)
    assert known.changed("a", Residency.ABSENT, 105.0) is None
    assert known.changed("a", Residency.RESIDENT, 106.0) is None


@pytest.mark.parametrize(("load_s", "late_s"), [(0.1, 1.0), (2.0, 6.0)])
def test_a_load_is_late_after_three_times_its_expected_time(load_s: float, late_s: float) -> None:
    known = resident(load_s)
    assert not known.is_late("a", 100.0)
    known.changed("a", Residency.LOADING, 100.0)
    assert not known.is_late("a", 100.0 + late_s)
    assert known.is_late("a", 100.5 + late_s)
    known.changed("a", Residency.RESIDENT, 110.0)
    assert not known.is_late("a", 120.0)


def test_residency_reported_by_a_previous_tier_manager_is_void() -> None:
    known = resident()
    known.changed("a", Residency.LOADING, 0.0)
    known.forget()
    assert known.experts == set()
    assert not known.is_late("a", 100.0)
    assert known.changed("a", Residency.RESIDENT, 100.0) is None
