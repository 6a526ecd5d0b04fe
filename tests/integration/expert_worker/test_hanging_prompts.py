"""A prompt that hangs in whichever worker has it: `coe up` starts the worker again, the prompt is given up in the end,
and nobody beside it."""

import asyncio
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest

from coe.local.restart import RestartPolicy
from coe.local.supervisor import Supervised
from support.worker_node import WorkerNode, following

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(300)]
WAIT_S = 120.0
# Python runs it when it starts.
HANGING = """
    import threading

    from coe.expert_worker import echo

    step = echo.EchoRunner.step


    def hang(self, lease):
        if "hang" in self._texts.values():
            threading.Event().wait()
        return step(self, lease)


    echo.EchoRunner.step = hang
"""


async def test_only_the_prompt_that_hangs_is_given_up(kafka_bootstrap: str, tmp_path: Path) -> None:
    experts, hook = tmp_path / "experts", tmp_path / "hook"
    experts.mkdir()
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(dedent(HANGING))
    node = WorkerNode(kafka_bootstrap, experts, tmp_path / "node", workers=1, hbm_bytes=8 << 20)
    (worker,) = node.workers
    worker.spec = replace(
        worker.spec,
        env={
            **worker.spec.env,
            "PYTHONPATH": str(hook),
            "COE_WORKER_ALLOW_ECHO": "1",
            "COE_WORKER_MAX_ATTEMPTS": "2",
            "COE_WORKER_STEP_TIMEOUT_S": "3",
        },
    )
    kept = Supervised("worker", worker, address="", restarts=RestartPolicy(), on_change=lambda _: None)
    async with node.running(), following(node.bootstrap) as client:
        keeping = asyncio.create_task(kept.keep())
        sent = {text: await client.send("echo", text) for text in ("one", "hang", "two")}
        await client.until(lambda ledger: set(sent.values()) <= set(ledger.ends), WAIT_S)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
    results = {text: client.ledger.results[request_id] for text, request_id in sent.items()}
    assert {client.ledger.ends[request_id] for request_id in sent.values()} == {1}
    assert [results[text].completion.text for text in ("one", "two")] == ["one", "two"]
    assert results["hang"].error.code == "internal"
    assert "2 workers in succession" in results["hang"].error.message
    assert kept.restarts == 2
    assert "ended with status 1: a step took more than 3 s (COE_WORKER_STEP_TIMEOUT_S)" in kept.trouble
