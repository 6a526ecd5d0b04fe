"""Random kill -9 of workers and tier manager under load, and what must come of it."""

import asyncio
import os
import random
import time
from pathlib import Path

from coe.experts.bundle import Bundle
from support.worker_node import AssignmentClient, WorkerNode, following, replicas

DRAIN_S = 240.0
# Prompts under way: enough to keep both workers busy over a restart.
UNDER_WAY = 12
TOPICS = ("rivers", "prime numbers", "bread", "the moon", "trade", "whales")


async def random_kills(bootstrap: str, bundle: Bundle, directory: Path, seconds: float) -> None:
    """Every prompt ends exactly once, with an answer. COE_TEST_CHAOS_SEED makes the same kills again."""
    seed = int(os.environ.get("COE_TEST_CHAOS_SEED", str(random.randrange(1 << 32))))
    print(f"COE_TEST_CHAOS_SEED={seed}")
    rng = random.Random(seed)
    experts = replicas(bundle, 4)
    hbm_bytes = int(2.5 * bundle.weights_bytes)
    node = WorkerNode(bootstrap, bundle.path.parent, directory, workers=2, hbm_bytes=hbm_bytes)
    sent: set[str] = set()
    async with node.running(), following(bootstrap) as client:
        until = time.monotonic() + seconds
        feeding = asyncio.create_task(feed(client, experts, sent, rng, until))
        kills = await kill(node, rng, until)
        await feeding
        await client.until(lambda ledger: sent <= set(ledger.ends), DRAIN_S)
        # A second event for one of them would have been committed before this one's.
        last = await client.send(experts[0], "Say yes.", max_tokens=2)
        await client.until(lambda ledger: last in ledger.ends, DRAIN_S)
    assert kills >= 2
    assert {client.ledger.ends[request_id] for request_id in sent} == {1}
    errors = [client.ledger.results[request_id].error for request_id in sent]
    failed = [f"{error.code}: {error.message}" for error in errors if error.code]
    assert not failed, failed
    reasons = {client.ledger.results[request_id].completion.finish_reason for request_id in sent}
    assert reasons <= {"stop", "length"}


async def feed(client: AssignmentClient, experts: list[str], sent: set[str], rng: random.Random, until: float) -> None:
    """Keeps as many prompts under way, over all experts."""
    while time.monotonic() < until:
        while len(sent) - len(client.ledger.ends) < UNDER_WAY:
            text = f"Write a sentence about {rng.choice(TOPICS)}."
            sent.add(await client.send(rng.choice(experts), text, max_tokens=rng.randrange(4, 24)))
        enough = len(sent) - UNDER_WAY
        try:
            await client.until(lambda ledger, enough=enough: len(ledger.ends) > enough, 1.0)  # type: ignore[misc]
        except TimeoutError:
            continue


async def kill(node: WorkerNode, rng: random.Random, until: float) -> int:
    """Returns how often. The victim is started again at once, and killed again maybe while it starts to work."""
    kills = 0
    victims = [node.manager, *node.workers]
    while time.monotonic() < until or kills < 2:
        await asyncio.sleep(rng.uniform(0.5, 6.0))
        await node.restart(rng.choice(victims))
        kills += 1
    return kills
