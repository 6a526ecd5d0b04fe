"""What test_two_nodes runs inside the hub's network: `two_nodes.py PLAN`, a JSON file with addresses and commands.

Two nodes answer prompts of the same topic. One of them is cut off, the other takes over; it comes back and works again.
Prints one JSON object.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from coe.local.kafka import KafkaServer
from coe.local.kafka.config import KafkaNode
from coe.local.ports import free_port
from coe.local.probe import serves
from coe.local.process import Child
from coe.local.readiness import until_ready
from coe.local.valkey import ValkeyServer
from coe.platform.residency import ResidencyReader
from support.deadlines import until
from support.worker_node import AssignmentClient, following

START_S = 120.0
ANSWER_S = 150.0
# Keys an expert's prompts have: enough that each node has some, whichever partitions it was given.
REPLICAS = 4


class Node:
    """A memory-tier manager and a worker on one address."""

    def __init__(self, name: str, address: str, enter: Sequence[str], home: Path, common: dict[str, str]) -> None:
        self.name, self.address = name, address
        tiers, worker = free_port(), free_port()
        shared = {**common, "COE_NODE": name, "COE_HOME": str(home), "COE_GRPC_HOST": address}
        manager_env = {"COE_TIERS_ARENA": f"{common['arena']}-{name}", "COE_TIERS_HBM_BYTES": common["hbm_bytes"]}
        worker_env = {"COE_WORKER_ID": f"worker-{name}", "COE_WORKER_TIER_MANAGER": f"{address}:{tiers}"}
        self._children = [
            (self._child(f"{name}-tiers", "memory_tier_manager", tiers, enter, home, {**shared, **manager_env}), tiers),
            (self._child(f"{name}-worker", "expert_worker", worker, enter, home, {**shared, **worker_env}), worker),
        ]

    def _child(
        self, name: str, package: str, port: int, enter: Sequence[str], home: Path, env: dict[str, str]
    ) -> Child:
        command = [*enter, sys.executable, "-m", f"coe.{package}.service"]
        env = {**env, "COE_GRPC_PORT": str(port), "COE_WORKER_THREADS": "1", "COE_WORKER_KV_BYTES": str(64 << 20)}
        return Child(name, command, log=home / f"{name}.log", env=env, grace_s=20)

    async def start(self) -> None:
        for child, port in self._children:
            child.start()
            await until_ready(child, lambda port=port: serves(f"{self.address}:{port}"), START_S)

    async def stop(self) -> None:
        for child, _ in reversed(self._children):
            await child.stop()


async def ask(client: AssignmentClient, experts: Sequence[str]) -> list[str]:
    return [
        await client.send(expert, "Count to five.", max_tokens=3, replica=replica)
        for replica in range(REPLICAS)
        for expert in experts
    ]


async def answered(client: AssignmentClient, wanted: Sequence[str]) -> set[str]:
    """The workers that answered."""
    await client.until(lambda ledger: set(wanted) <= set(ledger.ends), ANSWER_S)
    return {client.ledger.results[one].worker for one in wanted}


async def until_both_answer(client: AssignmentClient, experts: Sequence[str]) -> tuple[list[str], set[str]]:
    """Everything asked, and who answered last: a worker that serves may yet have to join its group."""
    deadline = time.monotonic() + ANSWER_S
    everything: list[str] = []
    while True:
        asked = await ask(client, experts)
        everything += asked
        workers = await answered(client, asked)
        if len(workers) == 2 or time.monotonic() > deadline:
            return everything, workers


async def main(plan: dict) -> dict:
    scratch, hub = Path(plan["scratch"]), plan["hub"]
    voters = {1: free_port()}
    broker = KafkaServer(scratch / "kafka", KafkaNode(1, free_port(), voters, host=hub))
    # Who is not heard of for 10 s is out of its group: long enough for a cable to be noticed.
    valkey = ValkeyServer(scratch / "valkey", extra={"bind": f"127.0.0.1 {hub}", "protected-mode": "no"})
    redis_url = f"redis://{hub}:{valkey.port}/0"
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(broker)
        await stack.enter_async_context(valkey)
        common = {
            "COE_KAFKA_BOOTSTRAP": broker.bootstrap,
            "COE_REDIS_URL": redis_url,
            "arena": plan["arena"],
            "hbm_bytes": str(plan["hbm_bytes"]),
        }
        nodes = [Node(one["name"], one["address"], one["enter"], Path(one["home"]), common) for one in plan["nodes"]]
        client = await stack.enter_async_context(following(broker.bootstrap))
        for node in nodes:
            stack.push_async_callback(node.stop)
        await asyncio.gather(*(node.start() for node in nodes))
        reader = ResidencyReader(redis_url, max_age_s=0)
        stack.push_async_callback(reader.close)

        first, both = await until_both_answer(client, plan["experts"])

        async def both_seen() -> bool:
            return len((await reader.snapshot()).nodes) == 2

        await until(both_seen)

        cut = await ask(client, plan["experts"])
        await asyncio.to_thread(subprocess.run, plan["cut"], check=True)
        second = await ask(client, plan["experts"])
        await answered(client, cut)
        alone = await answered(client, second)

        await asyncio.to_thread(subprocess.run, plan["mend"], check=True)
        third, back = await until_both_answer(client, plan["experts"])
        everything = [*first, *cut, *second, *third]
        errors = {one.error.code for one in client.ledger.results.values() if one.HasField("error")}
        return {
            "both": sorted(both),
            "alone": sorted(alone),
            "back": sorted(back),
            "answers": sorted({client.ledger.ends[one] for one in everything}),
            "errors": sorted(errors),
        }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))))
