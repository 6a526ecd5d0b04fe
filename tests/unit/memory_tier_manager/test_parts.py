"""The small building blocks (extents, budget, victims), checked against simple models."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coe.memory_tier_manager.budget import Budget
from coe.memory_tier_manager.eviction import EVICTION, Candidate, victims
from coe.memory_tier_manager.extents import Extents
from coe.memory_tier_manager.profiles import HOST, SN40L, SN40L_NODE
from coe.memory_tier_manager.tiers import Tier


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40)), max_size=60))
def test_extents_tile_the_arena_and_never_overlap(steps: list[tuple[bool, int]]) -> None:
    extents = Extents(128, alignment=4)
    live: list[int] = []
    for take, value in steps:
        if take and extents.can_allocate(value):
            live.append(extents.allocate(value).offset)
        elif not take and live:
            extents.free(live.pop(value % len(live)))
        extents.check_integrity()
    for offset in live:
        extents.free(offset)
    assert extents.largest == 128


@given(
    st.integers(1, 24),
    st.lists(st.tuples(st.integers(1, 8), st.booleans()), min_size=1, max_size=8),
    st.sampled_from(sorted(EVICTION)),
)
def test_victims_suffice_and_none_is_needless(need: int, sizes: list[tuple[int, bool]], policy: str) -> None:
    extents = Extents(24, alignment=1)
    candidates = []
    for number, (size, idle) in enumerate(sizes):
        if extents.can_allocate(size):
            extent = extents.allocate(size)
            if idle:
                candidates.append(
                    Candidate(str(number), extent.offset, size, number, -number, number % 3, 1 / (1 + number))
                )
    chosen = victims(need, candidates, extents, EVICTION[policy])

    def fits_without(gone: list[Candidate]) -> bool:
        trial = extents.copy()
        for candidate in gone:
            trial.free(candidate.offset)
        return trial.can_allocate(need)

    if chosen is None:
        assert not fits_without(candidates)
        return
    assert fits_without(chosen)
    for spared in chosen:
        assert not fits_without([candidate for candidate in chosen if candidate is not spared])


def test_orders_of_eviction() -> None:
    def first(policy: str, *candidates: Candidate) -> str:
        return min(candidates, key=EVICTION[policy].key).expert

    old = Candidate("old", 0, 1, loaded_at=0, last_used=9, next_use=5, probability=0.3)
    stale = Candidate("stale", 1, 1, loaded_at=3, last_used=4, next_use=7, probability=0.2)
    rare = Candidate("rare", 2, 1, loaded_at=5, last_used=8, next_use=6, probability=0.1)
    assert first("fifo", old, stale, rare) == "old"
    assert first("lru", old, stale, rare) == "stale"
    assert first("probability", old, stale, rare) == "rare"
    assert first("next-use", old, stale, rare) == "stale"


def test_budget_refuses_what_does_not_fit() -> None:
    budget = Budget(10)
    budget.reserve(6)
    budget.arrived(6)
    budget.drop(6)
    assert budget.free == 4
    assert not budget.can_reserve(5)
    with pytest.raises(ValueError, match="do not fit"):
        budget.reserve(5)
    budget.freed(6)
    budget.reserve(10)


def test_modelled_cost() -> None:
    llama2_7b = 13_476_000_000
    assert HOST.modelled_copy_s(Tier.DISK, llama2_7b) == 0.0
    assert SN40L.modelled_copy_s(Tier.HBM, llama2_7b) == 0.0
    assert SN40L_NODE.modelled_copy_s(Tier.DDR, llama2_7b) == pytest.approx(0.0135, rel=0.01)
    assert SN40L_NODE.modelled_copy_s(Tier.DISK, llama2_7b) > 1.0
