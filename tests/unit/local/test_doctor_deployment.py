"""What is found of a deployment, and what the doctor says to it."""

import os
from pathlib import Path

import pytest

from coe.local.doctor.check import Level
from coe.local.doctor.deployment import (
    DEFAULT_TIER,
    KafkaFacts,
    RedisFacts,
    TopicFacts,
    hbm_tier,
    kafka_checks,
    memory_check,
    redis_checks,
    service_checks,
)
from coe.local.doctor.groups import GroupFacts
from coe.native import HbmArena
from coe.platform import topics
from coe.platform.bus.api import TopicSpec

SPEC = TopicSpec("t", 8)


@pytest.mark.parametrize(
    ("found", "level"),
    [
        (TopicFacts(8, 3, 3, 2), Level.GOOD),
        (TopicFacts(12, 3, 3, 2), Level.GOOD),
        (TopicFacts(4, 3, 3, 2), Level.PROBLEM),
        (TopicFacts(8, 3, 1, 2), Level.PROBLEM),
        (TopicFacts(8, 3, 2, 2), Level.WARNING),
        (TopicFacts(8, 1, 1, 1), Level.WARNING),
        (TopicFacts(8, 3, 3, 1), Level.WARNING),
        (None, Level.PROBLEM),
    ],
)
def test_topics(found: TopicFacts | None, level: Level) -> None:
    facts = KafkaFacts(3, {} if found is None else {"t": found})
    brokers, topic = kafka_checks(facts, [SPEC])
    assert brokers.level is Level.GOOD
    assert topic.level is level
    assert bool(topic.fix) is (level is not Level.GOOD)


def test_where_brokers_keep_transactions_is_as_safe_as_the_prompts() -> None:
    safe, lonely = TopicFacts(50, 3, 3, 2), TopicFacts(50, 1, 1, 2)
    facts = KafkaFacts(3, {"t": safe, "__consumer_offsets": safe, "__transaction_state": lonely})
    levels = {check.name: check.level for check in kafka_checks(facts, [SPEC])}
    assert levels["topic __consumer_offsets"] is Level.GOOD
    assert levels["topic __transaction_state"] is Level.WARNING


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        ({}, ""),
        ({"message.timestamp.type": "LogAppendTime", "max.message.bytes": "2097152", "retention.ms": "5"}, ""),
        ({"message.timestamp.type": "LogAppendTime", "max.message.bytes": "9000000"}, ""),
        ({"message.timestamp.type": "CreateTime", "max.message.bytes": "2097152"}, "message.timestamp.type"),
        ({"message.timestamp.type": "LogAppendTime", "max.message.bytes": "1048588"}, "max.message.bytes"),
    ],
)
def test_a_topic_that_would_lose_prompts_is_a_problem(config: dict[str, str], wrong: str) -> None:
    spec = next(spec for spec in topics.SPECS if spec.name == topics.PROMPTS)
    facts = KafkaFacts(3, {spec.name: TopicFacts(8, 3, 3, 2, config)})
    _, topic = kafka_checks(facts, [spec])
    assert topic.level is (Level.PROBLEM if wrong else Level.GOOD)
    if wrong:
        assert topic.fix.endswith(f" --entity-name {spec.name} --add-config {wrong}={spec.config[wrong]}")


@pytest.mark.parametrize(
    ("members", "left", "level"),
    [(2, 0, Level.GOOD), (2, 900, Level.GOOD), (0, 0, Level.WARNING), (0, 3, Level.PROBLEM)],
)
def test_prompts_that_nobody_reads_are_a_problem(members: int, left: int, level: Level) -> None:
    facts = KafkaFacts(3, groups={"coe-router": GroupFacts("coe.prompts.v1", members, left)})
    _, check = kafka_checks(facts, [])
    assert (check.name, check.level) == ("group coe-router", level)
    assert check.found == f"{members} members, {left} records of coe.prompts.v1 unprocessed"
    assert bool(check.fix) is (level is not Level.GOOD)


def test_one_broker_is_a_warning_and_none_a_problem() -> None:
    checks = kafka_checks(KafkaFacts(1, {"t": TopicFacts(8, 1, 1, 1)}), [SPEC])
    assert [check.level for check in checks] == [Level.WARNING, Level.GOOD]
    (check,) = kafka_checks(KafkaFacts(error="away"), [SPEC])
    assert check.level is Level.PROBLEM


@pytest.mark.parametrize(
    ("facts", "kind", "levels"),
    [
        (RedisFacts("standalone", "valkey 9", nodes=["a"]), "", [Level.GOOD, Level.GOOD]),
        (RedisFacts("standalone", "valkey 9", nodes=["a"]), "sentinel", [Level.GOOD, Level.GOOD]),
        (RedisFacts("standalone", "valkey 9"), "", [Level.GOOD, Level.WARNING]),
        (RedisFacts("cluster", "valkey 9", nodes=["a"]), "", [Level.PROBLEM, Level.GOOD, Level.GOOD]),
        (RedisFacts("cluster", "valkey 9", False, ["a"]), "cluster", [Level.GOOD, Level.PROBLEM, Level.GOOD]),
        (RedisFacts(error="away"), "", [Level.WARNING]),
    ],
)
def test_redis(facts: RedisFacts, kind: str, levels: list[Level]) -> None:
    assert [check.level for check in redis_checks(facts, kind)] == levels


def test_an_arena_takes_no_more_than_is_asked_for() -> None:
    """The chart asks for as much."""
    name, hbm_bytes = f"coe-test-{os.getpid()}-doctor", (8 << 20) + 1
    with HbmArena.create(name, hbm_bytes) as arena:
        nbytes = (Path("/dev/shm") / name).stat().st_size
        arena.unlink()
    assert memory_check(nbytes, hbm_bytes).level is Level.GOOD
    assert memory_check(nbytes - 1, hbm_bytes).level is Level.PROBLEM


def test_memory_and_services() -> None:
    assert memory_check(2**30 + 2**21, 2**30).level is Level.GOOD
    assert memory_check(2**30, 2**30).level is Level.PROBLEM, "what the arena says of itself has no room"
    assert memory_check(64 * 2**20, 2**30).level is Level.PROBLEM
    assert memory_check(1, 2, DEFAULT_TIER).level is Level.WARNING, "perhaps no node is to run here"
    assert "as reported by node-0" in memory_check(1, 2, "as reported by node-0").found
    good, bad = service_checks({"a": "", "b": "its certificate has expired"})
    assert (good.level, bad.level) == (Level.GOOD, Level.PROBLEM)
    assert bad.found == "not serving: its certificate has expired"


def test_the_hbm_tier_is_what_is_set_else_what_runs_else_what_would() -> None:
    facts = RedisFacts("standalone", "valkey 9", hbm_bytes={"node-0": 3})
    assert hbm_tier(facts, "node-0", 2, 1) == (2, "COE_TIERS_HBM_BYTES")
    assert hbm_tier(facts, "node-0", None, 1) == (3, "as reported by node-0")
    assert hbm_tier(facts, "laptop", None, 1)[0] == 1
