"""What is looked at before anything of a stack starts."""

import shutil
from types import SimpleNamespace

import pytest

from coe.local import prepare
from coe.local.options import StackOptions
from coe.platform.errors import Unavailable

MIB = 1 << 20


def test_an_hbm_tier_has_room_in_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100 * MIB))
    assert prepare.hbm_bytes(StackOptions(hbm_bytes=100 * MIB), []) == 100 * MIB
    with pytest.raises(Unavailable, match=r"/dev/shm has 100 MiB free and the HBM tier takes 101: "):
        prepare.hbm_bytes(StackOptions(hbm_bytes=101 * MIB), [])
