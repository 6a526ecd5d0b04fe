"""How many threads are worth having, by what the system lets the process use."""

import os
from pathlib import Path

import pytest

from coe.platform.processors import processors


@pytest.mark.parametrize(
    ("limits", "count"),
    [
        ({}, 8),
        ({"pod/container": "max 100000"}, 8),
        ({"pod/container": "200000 100000"}, 2),
        ({"pod/container": "250000 100000"}, 2),
        ({"pod/container": "50000 100000"}, 1),
        ({"pod/container": "6400000 100000"}, 8),
        ({"pod": "300000 100000", "pod/container": "max 100000"}, 3),
        ({".": "150000 50000", "pod/container": "400000 100000"}, 3),
        ({"pod/container": "what?"}, 8),
    ],
)
def test_no_more_than_the_quotas_of_the_cgroup_let_it_use(
    limits: dict[str, str], count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    own = tmp_path / "cgroup"
    own.write_text("1:name=systemd:/other\n0::/pod/container\n")
    for folder, limit in limits.items():
        (tmp_path / "fs" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / folder / "cpu.max").write_text(f"{limit}\n")
    assert processors(own, tmp_path / "fs") == count


def test_no_more_than_it_is_bound_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert processors(tmp_path / "none", tmp_path) == 1
    assert processors() == 1
