"""Variations of the real expert behind one session and a real tier manager, in an HBM of a few, switched at random.

`make soak-native` runs it with 64 experts, an HBM of 8 and 4 threads for 60 s (COE_TEST_SOAK=1).
"""

import json
import os
import random
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from coe import native
from coe._proto import memory_tier_manager_pb2 as pb
from coe._proto import memory_tier_manager_pb2_grpc
from coe.experts.bundle import Bundle
from coe.experts.engine import Engine
from coe.experts.sampling_params import SamplingParams
from support.experts import smollm2_gguf
from support.kernel_accounting import Watch, proportional, status
from support.tiers_process import tiers_process
from support.variations import Variations

SOAK = bool(os.environ.get("COE_TEST_SOAK"))
EXPERTS, HBM_EXPERTS, SECONDS = (64, 8, 60.0) if SOAK else (10, 4, 5.0)
THREADS = 4
DDR_EXPERTS = EXPERTS // 4
HUGE_PAGE = 2 << 20
KV_BYTES = 64 << 20
DEADLINE_S = 60.0
# Of each thread, also on a machine that has no time for us.
LEAST_ANSWERS = 3
# Of libraries, the interpreter's heap and thread stacks, beside what the budgets name.
SLACK = 96 << 20
# Shorter than a KV block: nothing of one answer is reused by the next.
PROMPT_TOKENS = 12
SAMPLING = SamplingParams(max_tokens=6, temperature=1.0, seed=5)

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def home(smollm2_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("variations")
    yield home
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def bundles(home: Path, smollm2_bundle: Bundle) -> list[Bundle]:
    variations = Variations(smollm2_bundle, smollm2_gguf())
    made = [variations.make(home / "experts", seed) for seed in range(EXPERTS)]
    made[0].verify()
    assert all(bundle.manifest.synthetic for bundle in made)
    return made


class Leases:
    """The manager as a worker sees it."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._manager = memory_tier_manager_pb2_grpc.MemoryTierManagerStub(channel)
        self._attach = self._manager.Attach(pb.AttachRequest(worker_id="w", pid=os.getpid()))
        self.arena: str = next(self._attach).arena

    @contextmanager
    def of(self, expert_id: str) -> Iterator[int]:
        """A handle for the graph. The copy may still be under way."""
        lease = self._manager.Acquire(pb.AcquireRequest(worker_id="w", expert_id=expert_id), timeout=DEADLINE_S).lease
        try:
            yield native.lease_handle(lease.slot, lease.generation)
        finally:
            self._manager.Release(pb.ReleaseRequest(worker_id="w", lease_id=lease.lease_id), timeout=DEADLINE_S)

    def close(self) -> None:
        self._attach.cancel()


@dataclass
class Host:
    """The worker's side."""

    engine: Engine
    leases: Leases
    bundles: list[Bundle]

    def answer(self, number: int) -> list[int]:
        bundle = self.bundles[number]
        runner = self.engine.runner(bundle)
        prompt = [100 + 37 * number + 11 * position for position in range(PROMPT_TOKENS)]
        runner.add_tokens("r", prompt, SAMPLING)
        tokens: list[int] = []
        with self.leases.of(bundle.id) as lease:
            while runner.live:
                tokens += [token for emission in runner.step(lease) for token in emission.token_ids]
        return tokens


def switch_at_random(host: Host, alone: list[list[int]], seconds: float) -> tuple[int, list[str]]:
    """How many answers the threads got, and which were not what the expert says alone."""
    end = time.monotonic() + seconds
    answers = [0] * THREADS
    failures: list[str] = []

    def work(seed: int) -> None:
        draw = random.Random(seed)
        while time.monotonic() < end or answers[seed] < LEAST_ANSWERS:
            number = draw.randrange(EXPERTS)
            try:
                got = host.answer(number)
            except Exception as error:
                failures.append(f"expert {number}: {error!r}")
                return
            answers[seed] += 1
            if got != alone[number]:
                failures.append(f"expert {number}: {got}, alone {alone[number]}")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds + DEADLINE_S)
        assert not thread.is_alive()
    return sum(answers), failures


def test_every_expert_answers_as_alone_within_the_budgets(home: Path, bundles: list[Bundle]) -> None:
    room = -(-bundles[0].weights_bytes // HUGE_PAGE) * HUGE_PAGE
    hbm, ddr = HBM_EXPERTS * room, DDR_EXPERTS * bundles[0].weights_bytes
    arena_name = f"coe-test-soak-{os.getpid()}"
    with (
        tiers_process(home, hbm_bytes=hbm, ddr_bytes=ddr, arena=arena_name) as manager,
        grpc.insecure_channel(manager.address) as channel,
    ):
        leases = Leases(channel)
        with native.HbmArena.attach(leases.arena) as arena:
            arena.bind()
            host = Host(Engine(threads=2, kv_bytes=KV_BYTES, max_batch=1), leases, bundles)
            host.answer(0)
            before = status(os.getpid())
            with Watch({"worker": os.getpid(), "manager": manager.process.pid}, arena_name) as watch:
                alone = [host.answer(number) for number in range(EXPERTS)]
                count, failures = switch_at_random(host, alone, SECONDS)
            together = proportional(os.getpid())["Pss"] + proportional(manager.process.pid)["Pss"]
        leases.close()
    figures = {
        "experts": EXPERTS, "hbm_budget_bytes": hbm, "arena_bytes": watch.arena_bytes, "ddr_budget_bytes": ddr,
        "expert_bytes": bundles[0].weights_bytes, "answers": count, "sessions": host.engine.sessions_built,
        "worker": watch.highest["worker"], "manager": watch.highest["manager"], "worker_before": before,
        "pss_of_both": together,
    }  # fmt: skip
    print(json.dumps(figures))
    assert failures == []
    assert count >= THREADS * LEAST_ANSWERS
    assert len({tuple(tokens) for tokens in alone}) == EXPERTS
    assert host.engine.sessions_built == 1
    # The arena: its data and one page of header.
    assert watch.arena_bytes <= hbm + HUGE_PAGE
    worker, tiers = watch.highest["worker"], watch.highest["manager"]
    assert tiers["RssShmem"] <= hbm + HUGE_PAGE
    assert tiers["VmLck"] <= ddr + HBM_EXPERTS * 4096
    assert tiers["RssAnon"] + tiers["RssFile"] <= ddr + 2 * SLACK
    assert worker["RssShmem"] <= hbm + HUGE_PAGE + KV_BYTES
    # However many experts it met, the worker holds no copy of any.
    assert worker["RssAnon"] - before["RssAnon"] < SLACK
