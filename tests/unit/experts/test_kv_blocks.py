import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from coe.experts.kv_blocks import BlockPool, KvBudget
from coe.experts.kv_sharing import SharedKv
from coe.platform.errors import CapacityExceeded, ContextExceeded


class Owner:
    """A KV cache without memory."""

    def __init__(self, budget: KvBudget, block_bytes: int, blocks: int) -> None:
        self.pool = BlockPool(budget, block_bytes, block_tokens=4, blocks=blocks)

    def forget_kv(self) -> None:
        self.pool.forget()


class SharedKvMachine(RuleBasedStateMachine):
    """Two layouts of different block sizes under one budget."""

    def __init__(self) -> None:
        super().__init__()
        self.kv = SharedKv(1000)
        self.owners = [Owner(self.kv.budget, 100, 10), Owner(self.kv.budget, 70, 14)]
        for owner in self.owners:
            self.kv.join(owner)
        self.held: list[tuple[Owner, list[int]]] = []

    @rule(which=st.integers(0, 1), tokens=st.integers(1, 60))
    def reserve(self, which: int, tokens: int) -> None:
        owner = self.owners[which]
        try:
            blocks = self.kv.reserve(owner, tokens)
        except (CapacityExceeded, ContextExceeded):
            return
        assert len(blocks) == -(-tokens // 4)
        self.held.append((owner, blocks))

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        owner, blocks = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.kv.release(owner, blocks)

    @invariant()
    def no_block_has_two_owners_and_the_budget_holds(self) -> None:
        for owner in self.owners:
            owner.pool.check_integrity()
            used = [block for other, blocks in self.held if other is owner for block in blocks]
            assert len(used) == len(set(used))
            assert all(0 <= block < owner.pool.blocks for block in used)
        assert 0 <= self.kv.budget.taken <= self.kv.budget.limit


TestSharedKv = SharedKvMachine.TestCase


def test_what_can_never_fit_is_said_at_once() -> None:
    kv = SharedKv(1000)
    owner = Owner(kv.budget, 100, 10)
    kv.join(owner)
    with pytest.raises(ContextExceeded):
        kv.reserve(owner, 41)


def test_an_idle_layout_gives_its_memory_to_another() -> None:
    kv = SharedKv(1000)
    one, two = Owner(kv.budget, 100, 10), Owner(kv.budget, 100, 10)
    kv.join(one)
    kv.join(two)
    blocks = kv.reserve(one, 40)
    with pytest.raises(CapacityExceeded):
        kv.reserve(two, 4)
    kv.release(one, blocks)
    assert len(kv.reserve(two, 40)) == 10


def test_the_lowest_free_block_goes_first() -> None:
    kv = SharedKv(1000)
    owner = Owner(kv.budget, 100, 10)
    kv.join(owner)
    first = kv.reserve(owner, 8)
    kv.reserve(owner, 4)
    kv.release(owner, first)
    assert kv.reserve(owner, 4) == [0]
