"""How the worker's settings are read from the environment."""

import pytest

from coe.expert_worker import settings
from coe.expert_worker.settings import WorkerSettings
from coe.experts import activation_bits


@pytest.mark.parametrize("bits", [8, 16])
def test_activation_bits_are_a_number(monkeypatch: pytest.MonkeyPatch, bits: int) -> None:
    monkeypatch.setenv("COE_WORKER_ACTIVATION_BITS", str(bits))
    assert WorkerSettings().activation_bits == bits


@pytest.mark.parametrize("wrong", ["12", "eight", ""])
def test_invalid_activation_bits_are_refused_by_name(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("COE_WORKER_ACTIVATION_BITS", wrong)
    with pytest.raises(SystemExit, match="COE_WORKER_ACTIVATION_BITS: Input should be 16 or 8"):
        WorkerSettings()


@pytest.mark.parametrize(("isa", "bits"), [("amx", 16), ("avx512", 8), ("avx2", 8), ("portable", 8)])
def test_tiles_keep_sixteen(monkeypatch: pytest.MonkeyPatch, isa: str, bits: int) -> None:
    monkeypatch.setattr(activation_bits, "instruction_set", lambda: isa)
    assert (activation_bits.used(8), activation_bits.used(16)) == (bits, 16)


def test_a_cache_larger_than_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COE_WORKER_KV_BYTES", str(1 << 60))
    with pytest.raises(SystemExit, match=r"^coe: COE_WORKER_KV_BYTES: 1152921504606846976 bytes exceed"):
        WorkerSettings()


@pytest.mark.parametrize(("limit", "fits"), [("max", True), (str(2 << 30), True), (str(256 << 20), False)])
def test_a_container_limit_counts_as_its_memory(limit: str, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "limits", {"memory.max": ["max", limit]}.__getitem__)
    monkeypatch.setenv("COE_WORKER_KV_BYTES", str(512 << 20))
    if fits:
        assert WorkerSettings().kv_bytes == 512 << 20
        return
    with pytest.raises(SystemExit, match="the 268435456 bytes of available memory"):
        WorkerSettings()
