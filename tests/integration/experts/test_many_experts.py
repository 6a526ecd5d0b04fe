"""Many experts of one layout through one session, in fewer slots than there are experts."""

import os
import random
import threading
from collections.abc import Iterator

import pytest

from coe import native
from coe.experts.bundle import Bundle
from coe.experts.engine import Engine
from coe.experts.sampling_params import SamplingParams
from coe.platform.errors import LeaseLost
from support.experts import import_gguf
from support.gguf_files import TinyModel, write_tiny_gguf
from support.kernel_accounting import status

EXPERTS, SLOTS = 6, 3
SWITCHES = 40
DEADLINE_S = 30.0
PROMPT = [5, 9, 40, 7, 7, 21, 3]
SAMPLING = SamplingParams(max_tokens=12, temperature=0.8, seed=4)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    directory = tmp_path_factory.mktemp("many")
    return [
        import_gguf(
            write_tiny_gguf(directory / f"{seed}.gguf", TinyModel(seed=seed, layers=2)), directory / "e", f"tiny-{seed}"
        )
        for seed in range(EXPERTS)
    ]


@pytest.fixture
def arena(bundles: list[Bundle]) -> Iterator[native.HbmArena]:
    room = -(-bundles[0].weights_bytes // 4096) * 4096
    arena = native.HbmArena.create(f"/coe-test-many-{os.getpid()}", SLOTS * room, slots=SLOTS)
    arena.bind()
    yield arena
    arena.close()
    arena.unlink()


def load(arena: native.HbmArena, slot: int, bundle: Bundle) -> int:
    """Puts an expert into a slot, in place of what is there. Returns its lease; the copy may still run."""
    if arena.slot(slot).state == native.SlotState.RESIDENT:
        arena.free(slot)
    weights = native.WeightsFile.open(bundle.weights_path, bundle.manifest.checksums, bundle.manifest.chunk_bytes)
    loading = arena.load(slot, slot * arena.capacity // SLOTS, weights)
    assert loading.wait(DEADLINE_S)
    assert loading.error is None
    weights.close()
    return native.lease_handle(slot, loading.generation)


def answer(engine: Engine, bundle: Bundle, lease: int, request_id: str = "r") -> list[int]:
    runner = engine.runner(bundle)
    runner.add_tokens(request_id, PROMPT, SAMPLING)
    tokens: list[int] = []
    while runner.live:
        for emission in runner.step(lease):
            tokens += emission.token_ids
    return tokens


def test_threads_that_switch_at_random_get_each_experts_own_answers(
    arena: native.HbmArena, bundles: list[Bundle]
) -> None:
    engine = Engine(threads=2, kv_bytes=8 << 20, max_batch=4)
    alone = [answer(engine, bundle, load(arena, 0, bundle)) for bundle in bundles]
    assert len({tuple(tokens) for tokens in alone}) == EXPERTS
    failures: list[str] = []

    def switch(slot: int) -> None:
        draw = random.Random(slot)
        for _ in range(SWITCHES):
            number = draw.randrange(EXPERTS)
            got = answer(engine, bundles[number], load(arena, slot, bundles[number]))
            if got != alone[number]:
                failures.append(f"expert {number} in slot {slot}: {got}, alone {alone[number]}")

    threads = [threading.Thread(target=switch, args=(slot,)) for slot in range(SLOTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
    assert failures == []
    assert engine.sessions_built == 1


def test_a_lease_that_went_stale_is_said_so_and_generation_goes_on_under_a_new_one(
    arena: native.HbmArena, bundles: list[Bundle]
) -> None:
    engine = Engine(threads=1, kv_bytes=8 << 20, max_batch=4)
    lease = load(arena, 0, bundles[1])
    expected = answer(engine, bundles[1], lease)
    runner = engine.runner(bundles[1])
    runner.add_tokens("r", PROMPT, SAMPLING)
    tokens = [token for _ in range(4) for emission in runner.step(lease) for token in emission.token_ids]
    load(arena, 0, bundles[2])
    with pytest.raises(LeaseLost):
        runner.step(lease)
    lease = load(arena, 1, bundles[1])
    while runner.live:
        tokens += [token for emission in runner.step(lease) for token in emission.token_ids]
    assert tokens == expected


def test_answers_do_not_depend_on_what_shares_the_batch(arena: native.HbmArena, bundles: list[Bundle]) -> None:
    engine = Engine(threads=2, kv_bytes=8 << 20, max_batch=16)
    lease = load(arena, 0, bundles[0])
    expected = answer(engine, bundles[0], lease)
    runner = engine.runner(bundles[0])
    for number in range(9):
        runner.add_tokens(f"other{number}", [number + 1] * (3 + 5 * number), SamplingParams(max_tokens=20, seed=number))
    runner.step(lease)
    runner.add_tokens("r", PROMPT, SAMPLING)
    tokens: list[int] = []
    while runner.live:
        tokens += [t for emission in runner.step(lease) if emission.request_id == "r" for t in emission.token_ids]
    assert tokens == expected


def test_an_answer_with_its_past_remembered_is_the_same(arena: native.HbmArena, bundles: list[Bundle]) -> None:
    lease = load(arena, 0, bundles[0])
    sampling = SamplingParams(max_tokens=30, temperature=1.0, seed=8)
    turns = [[number % 180 for number in range(start, start + 50)] for start in (0, 7, 0)]

    def conversation(engine: Engine) -> list[list[int]]:
        """Each turn begins with all that was said before."""
        past: list[int] = []
        answers = []
        for turn in turns:
            runner = engine.runner(bundles[0])
            past += turn
            runner.add_tokens("r", past, sampling)
            answer = []
            while runner.live:
                answer += [token for emission in runner.step(lease) for token in emission.token_ids]
            answers.append(answer)
            past += answer
        return answers

    remembering = Engine(threads=1, kv_bytes=8 << 20, max_batch=1)
    first = conversation(remembering)
    assert conversation(remembering) == first
    past: list[int] = []
    for turn, answer in zip(turns, first, strict=True):
        fresh = Engine(threads=2, kv_bytes=8 << 20, max_batch=1).runner(bundles[0])
        past += turn
        fresh.add_tokens("r", past, sampling)
        alone: list[int] = []
        while fresh.live:
            alone += [token for emission in fresh.step(lease) for token in emission.token_ids]
        assert alone == answer
        past += answer


def test_a_warm_engine_has_its_memory(arena: native.HbmArena, bundles: list[Bundle]) -> None:
    engine = Engine(threads=2, kv_bytes=64 << 20, max_batch=4)
    before = status(os.getpid())["RssAnon"]
    engine.warm_up(bundles[0])
    assert status(os.getpid())["RssAnon"] - before > 60 << 20
    cold = Engine(threads=2, kv_bytes=8 << 20, max_batch=4)
    lease = load(arena, 0, bundles[0])
    assert answer(engine, bundles[0], lease) == answer(cold, bundles[0], lease)
    assert engine.sessions_built == 1
