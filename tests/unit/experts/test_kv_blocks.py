import gc

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from coe.experts.kv_blocks import BlockPool, KvBudget
from coe.experts.kv_sharing import ExpertKv, Reservation, SharedKv
from coe.platform.errors import CapacityExceeded, ContextExceeded
from support.examples import examples, search_timeout

pytestmark = search_timeout


class Owner:
    """A KV cache without memory."""

    def __init__(self, budget: KvBudget, block_bytes: int, blocks: int) -> None:
        self.pool = BlockPool(budget, block_bytes, block_tokens=4, blocks=blocks)

    def forget_kv(self) -> None:
        self.pool.forget()


class SharedKvMachine(RuleBasedStateMachine):
    """Three experts in two layouts of different block sizes under one budget, with prompts that share beginnings."""

    def __init__(self) -> None:
        super().__init__()
        self.kv = SharedKv(1000)
        self.owners = [Owner(self.kv.budget, 100, 10), Owner(self.kv.budget, 70, 14)]
        for owner in self.owners:
            self.kv.join(owner)
        self.experts = [self.kv.expert(self.owners[which], name) for which, name in ((0, "a"), (0, "b"), (1, "c"))]
        self.held: list[tuple[ExpertKv, list[int], Reservation]] = []
        # (expert, block) -> the tokens that were computed into it last.
        self.content: dict[tuple[int, int], tuple[int, ...]] = {}

    @rule(which=st.integers(0, 2), prompt=st.lists(st.integers(0, 1), min_size=1, max_size=24), more=st.integers(0, 30))
    def reserve(self, which: int, prompt: list[int], more: int) -> None:
        expert = self.experts[which]
        try:
            reservation = expert.reserve(prompt, len(prompt) + more)
        except (CapacityExceeded, ContextExceeded):
            return
        assert len(reservation.blocks) == -(-(len(prompt) + more) // 4)
        assert 4 * len(reservation.path) < len(prompt)
        for index in range(len(reservation.path)):
            key = (id(expert.owner), reservation.blocks[index])
            assert self.content[key] == (which, *prompt[: 4 * index + 4])
        self.held.append((expert, prompt, reservation))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), more=st.lists(st.integers(0, 1), max_size=30))
    def release(self, data: st.DataObject, more: list[int]) -> None:
        expert, prompt, reservation = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        known = 4 * len(reservation.path)
        ids = (prompt + more)[: 4 * len(reservation.blocks)]
        computed = ids[: data.draw(st.integers(known, len(ids)))]
        for index in range(len(reservation.path), len(computed) // 4):
            key = (id(expert.owner), reservation.blocks[index])
            self.content[key] = (self.experts.index(expert), *computed[: 4 * index + 4])
        expert.release(reservation, computed)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        expert, prompt, reservation = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        expert.discard(reservation)
        used = {id(cached) for _, _, other in self.held for cached in other.path}
        again = expert.cache.match(prompt)
        expert.cache.unuse(again)
        assert all(id(cached) in used for cached in again if cached in reservation.path)

    @invariant()
    def no_block_is_written_by_two_and_the_budget_holds(self) -> None:
        for owner in self.owners:
            owner.pool.check_integrity()
            written = [
                block
                for expert, _, reservation in self.held
                if expert.owner is owner
                for block in reservation.blocks[len(reservation.path) :]
            ]
            read = {
                cached.block
                for expert, _, reservation in self.held
                if expert.owner is owner
                for cached in reservation.path
            }
            assert len(written) == len(set(written))
            assert not read & set(written)
            assert all(0 <= block < owner.pool.blocks for block in written)
        assert 0 <= self.kv.budget.taken <= self.kv.budget.limit

    def teardown(self) -> None:
        for expert, prompt, reservation in self.held:
            expert.release(reservation, prompt[: 4 * len(reservation.path)])
        for owner in self.owners:
            cached = sum(len(expert.cache) for expert in self.experts if expert.owner is owner)
            assert owner.pool.used == cached


TestSharedKv = SharedKvMachine.TestCase
TestSharedKv.settings = settings(max_examples=examples(40), deadline=None)


@pytest.fixture
def kv() -> SharedKv:
    return SharedKv(1000)


def expert_of(kv: SharedKv, name: str = "a") -> ExpertKv:
    owner = Owner(kv.budget, 100, 10)
    kv.join(owner)
    return kv.expert(owner, name)


def test_what_can_never_fit_is_said_at_once(kv: SharedKv) -> None:
    with pytest.raises(ContextExceeded):
        expert_of(kv).reserve([1], 41)


def test_an_idle_layout_gives_its_memory_to_another(kv: SharedKv) -> None:
    one, two = expert_of(kv, "a"), expert_of(kv, "b")
    prompt = list(range(40))
    reservation = one.reserve(prompt, 40)
    with pytest.raises(CapacityExceeded):
        two.reserve([1], 4)
    one.release(reservation, prompt)
    assert len(two.reserve([1], 40).blocks) == 10
    assert len(one.cache) == 0


@pytest.mark.parametrize(("limit", "blocks"), [(300, 10), (1000, 3), (399, 3)])
def test_neither_the_budget_nor_the_blocks_are_exceeded(limit: int, blocks: int) -> None:
    pool = BlockPool(KvBudget(limit), block_bytes=100, block_tokens=4, blocks=blocks)
    assert pool.most_tokens == 12
    assert pool.can_reserve(12)
    assert not pool.can_reserve(13)
    taken = pool.reserve(9)
    assert taken == [0, 1, 2]
    assert not pool.can_reserve(1)
    pool.release(taken[1:])
    assert pool.can_reserve(8)
    assert not pool.can_reserve(9)


def test_what_is_given_back_twice_or_taken_without_room_is_noticed() -> None:
    pool = BlockPool(KvBudget(200), block_bytes=100, block_tokens=4, blocks=9)
    with pytest.raises(AssertionError, match="300 bytes taken, 200 left"):
        pool.reserve(12)
    pool.release([*pool.reserve(8)[:1], 0])
    with pytest.raises(AssertionError, match="2 free and 0 used of 2"):
        pool.check_integrity()


def test_the_lowest_free_block_goes_first(kv: SharedKv) -> None:
    expert = expert_of(kv)
    first = expert.reserve([1], 8)
    expert.reserve([1], 4)
    expert.release(first, [])
    assert expert.reserve([1], 4).blocks == (0,)


def test_a_conversation_finds_its_past(kv: SharedKv) -> None:
    expert = expert_of(kv)
    first = expert.reserve([1, 2, 3, 4, 5, 6], 12)
    expert.release(first, [1, 2, 3, 4, 5, 6, 7, 8, 9])
    again = expert.reserve([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 12)
    assert again.blocks[:2] == first.blocks[:2]
    assert len(again.path) == 2
    # The last token of a prompt is always computed: its logits are wanted.
    assert len(expert.reserve([1, 2, 3, 4], 4).path) == 0


def test_the_past_gives_way_oldest_first(kv: SharedKv) -> None:
    expert = expert_of(kv)
    for start in (0, 100):
        prompt = list(range(start, start + 12))
        expert.release(expert.reserve(prompt, 12), prompt)
    expert.reserve([1], 20)
    expert.reserve([1], 4)
    assert len(expert.reserve(list(range(100, 113)), 13).path) == 3


def test_of_experts_that_nobody_runs_only_those_with_a_past_are_known(kv: SharedKv) -> None:
    """Weights that were imported anew have another name each time."""
    owner = Owner(kv.budget, 100, 10)
    kv.join(owner)
    for number in range(50):
        expert = kv.expert(owner, f"weights-{number}")
        prompt = list(range(20))
        expert.release(expert.reserve(prompt, 20), prompt)
    del expert
    gc.collect()
    assert len(kv._experts) == len(kv._past) == 2
    assert len(kv.expert(owner, "weights-49").cache) == 5
    assert len(kv.expert(owner, "weights-0").cache) == 0
