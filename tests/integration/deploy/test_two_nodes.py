"""Two nodes with a network between them: one is cut off, the other answers for both, and nothing is answered twice."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from coe.experts.bundle import Bundle
from support import namespaces
from support.worker_node import replicas

pytestmark = [pytest.mark.kafka, pytest.mark.valkey, pytest.mark.model, pytest.mark.timeout(500)]
ROOT = Path(__file__).resolve().parents[3]
RUN_S = 420


@contextmanager
def network() -> Iterator[tuple[str, list[namespaces.Machine]]]:
    """The hub's address, and the machines; skips where the kernel allows no namespaces."""
    try:
        with namespaces.machines(["hub", "a", "b"]) as made:
            yield made[0].address, made
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", b"") or str(error).encode()
        pytest.skip(f"network namespaces are not permitted here: {reason.decode().strip()}")


def test_a_node_is_cut_off_and_comes_back(smollm2_bundle: Bundle, tmp_path: Path) -> None:
    experts = replicas(smollm2_bundle, 5)
    with network() as (hub, made):
        nodes: list[dict[str, Any]] = []
        for machine, name in zip(made[1:], ("a", "b"), strict=True):
            home = tmp_path / name
            home.mkdir()
            (home / "experts").symlink_to(smollm2_bundle.path.parent)
            nodes.append({"name": name, "address": machine.address, "enter": machine.enter, "home": str(home)})
        link = ["ip", "-n", made[2].name, "link", "set", "eth0"]
        plan = {
            "scratch": str(tmp_path),
            "hub": hub,
            "nodes": nodes,
            "experts": experts,
            "arena": f"coe-test-{os.getpid()}",
            "hbm_bytes": 3 * smollm2_bundle.weights_bytes,
            "cut": [*link, "down"],
            "mend": [*link, "up"],
        }
        file = tmp_path / "plan.json"
        file.write_text(json.dumps(plan))
        script = Path(__file__).with_name("two_nodes.py")
        env = {**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT / 'services'}"}
        done = subprocess.run(
            [*made[0].enter, sys.executable, script, file],
            env=env,
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["answers"] == [1], "a prompt was lost or answered twice"
    assert found["errors"] == []
    assert found["both"] == ["worker-a", "worker-b"]
    assert found["alone"] == ["worker-a"]
    assert found["back"] == ["worker-a", "worker-b"]
