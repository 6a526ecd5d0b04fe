"""A worker gives back the memory of an arena that is gone: its manager's successor may need it."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from coe.expert_worker.bound_arena import BoundArena
from coe.native import HbmArena


def mapped(name: str) -> bool:
    return any(name in line for line in Path("/proc/self/maps").read_text().splitlines())


@pytest.fixture
def bound() -> Iterator[BoundArena]:
    bound = BoundArena()
    yield bound
    bound.close()


def test_an_arena_that_is_gone_is_let_go_of_once(bound: BoundArena) -> None:
    name = f"coe-test-{uuid.uuid4().hex[:8]}"
    assert not bound.gone
    bound.let_go()
    owner = HbmArena.create(name, 4 << 20, 16)
    bound.bind(name)
    assert not bound.gone
    bound.let_go()
    assert mapped(name), "it is not gone"
    owner.close()
    owner.unlink()
    assert bound.gone
    assert mapped(name)
    bound.let_go()
    assert not mapped(name)
    assert not bound.gone
    bound.let_go()
    with HbmArena.create(name, 4 << 20, 16) as successor:
        bound.bind(name)
        assert mapped(name)
        successor.unlink()
    assert bound.gone
    bound.let_go()
    assert not mapped(name)
    assert not list(Path("/dev/shm").glob("coe-nothing-*"))
