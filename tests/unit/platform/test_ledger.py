"""The offset ledger: whatever order records end in and wherever a crash falls, each is done once and none is lost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coe.platform.bus.ledger import MAX_IN_FLIGHT, MAX_WINDOW, METADATA_LIMIT, OffsetLedger


def test_the_commit_waits_for_the_oldest() -> None:
    ledger = OffsetLedger(10)
    assert [ledger.take(offset) for offset in (10, 11, 12)] == [True] * 3
    ledger.complete(11)
    assert ledger.committed == 10
    ledger.complete(10)
    assert ledger.committed == 12
    ledger.complete(12)
    assert (ledger.committed, ledger.metadata()) == (13, "")


def test_the_next_owner_repeats_only_what_was_not_done() -> None:
    ledger = OffsetLedger()
    for offset in range(4):
        ledger.take(offset)
    ledger.complete(1)
    ledger.complete(3)
    heir = OffsetLedger(ledger.committed, ledger.metadata())
    assert [heir.take(offset) for offset in range(6)] == [True, False, True, False, True, True]
    assert [heir.attempt(offset) for offset in (0, 2, 4)] == [1, 1, 0]


def test_gaps_count_as_done() -> None:
    ledger = OffsetLedger()
    ledger.take(5)
    ledger.take(9)
    ledger.complete(5)
    assert ledger.committed == 9


def test_what_no_longer_exists_does_not_hold_the_commit() -> None:
    ledger = OffsetLedger()
    ledger.take(0)
    heir = OffsetLedger(ledger.committed, ledger.metadata())
    heir.take(7)
    heir.complete(7)
    assert heir.committed == 8


@pytest.mark.parametrize("metadata", ["somebody else's", "coe1:!!", "coe1:gA==", "coe2:AAAA"])
def test_foreign_metadata_is_no_metadata(metadata: str) -> None:
    assert OffsetLedger(3, metadata).take(3)


def test_after_a_break_others_work_is_not_repeated() -> None:
    ledger = OffsetLedger()
    for offset in range(3):
        ledger.take(offset)
    other = OffsetLedger()
    for offset in range(3):
        other.take(offset)
    other.complete(0)
    other.complete(2)
    assert ledger.reconcile(OffsetLedger(other.committed, other.metadata())) == [0, 2]
    assert ledger.holds(1)


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_the_metadata_always_fits(data: st.DataObject) -> None:
    """The worst case is alternating runs; any subset of the window may be what is left."""
    ledger, offset = OffsetLedger(), 0
    while not ledger.full:
        offset += data.draw(st.integers(1, 90), label="gap") if ledger.in_flight % 7 == 0 else 2
        ledger.take(offset)
    assert ledger.in_flight <= MAX_IN_FLIGHT
    assert len(ledger.metadata()) < METADATA_LIMIT


def test_a_stuck_record_stops_the_window() -> None:
    ledger = OffsetLedger()
    ledger.take(0)
    for offset in range(1, MAX_WINDOW):
        assert not ledger.full
        ledger.take(offset)
        ledger.complete(offset)
    assert ledger.full
    ledger.complete(0)
    assert not ledger.full


class CrashingConsumer(RuleBasedStateMachine):
    """A log of records with gaps, and consumers that die at any moment."""

    @initialize(gaps=st.lists(st.integers(1, 4), min_size=1, max_size=40))
    def log(self, gaps: list[int]) -> None:
        self.offsets = [sum(gaps[: index + 1]) for index in range(len(gaps))]
        self.done: set[int] = set()
        self.committed: tuple[int, str] = (0, "")
        self.attempts: dict[int, int] = {}
        self.start()

    def start(self) -> None:
        self.ledger = OffsetLedger(*self.committed)
        self.coming = [offset for offset in self.offsets if offset >= self.committed[0]]
        self.held: list[int] = []

    @precondition(lambda self: self.coming and not self.ledger.full)
    @rule(commit=st.booleans())
    def take(self, commit: bool) -> None:
        offset = self.coming.pop(0)
        if self.ledger.take(offset):
            assert offset not in self.done, "handed out again after it was done"
            assert self.ledger.attempt(offset) >= self.attempts.get(offset, 0)
            self.held.append(offset)
        else:
            assert offset in self.done, "skipped without being done"
        if commit:
            self.commit()

    def commit(self) -> None:
        self.committed = (self.ledger.committed, self.ledger.metadata())
        self.attempts |= {offset: self.ledger.attempt(offset) + 1 for offset in self.held}

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(self.held))
        self.held.remove(offset)
        self.ledger.complete(offset)
        self.done.add(offset)
        self.commit()

    @rule()
    def crash(self) -> None:
        self.start()

    @rule()
    def rebalance_within_one_owner(self) -> None:
        self.coming = [offset for offset in self.offsets if offset >= self.committed[0]]
        self.coming = [offset for offset in self.coming if offset >= self.ledger.position]

    @invariant()
    def nothing_below_the_commit_is_open(self) -> None:
        assert all(offset in self.done for offset in self.offsets if offset < self.committed[0])

    def teardown(self) -> None:
        if hasattr(self, "offsets"):
            self.start()
            for offset in self.coming:
                if self.ledger.take(offset):
                    assert offset not in self.done
                    self.done.add(offset)
                    self.ledger.complete(offset)
            assert self.done == set(self.offsets)
            assert self.ledger.committed == self.offsets[-1] + 1 or self.ledger.committed == self.committed[0]


TestCrashingConsumer = CrashingConsumer.TestCase
TestCrashingConsumer.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
