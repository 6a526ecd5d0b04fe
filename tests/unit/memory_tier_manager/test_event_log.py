"""What was logged can be replayed."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from typer.testing import CliRunner

from coe.cli.main import build
from coe.memory_tier_manager import effects as fx
from coe.memory_tier_manager import event_log, snapshot
from coe.memory_tier_manager import events as ev
from coe.platform.errors import ArtifactError, ChecksumMismatch, TierLoadError
from support.tiers_world import World

texts = st.text(max_size=8)
whole = st.integers(0, 2**60)
uses = st.lists(st.builds(ev.Use, texts, st.floats(0), st.floats(0, 1)), max_size=3).map(tuple)
events = st.one_of(
    st.builds(ev.Attach, texts, whole),
    st.builds(ev.Acquire, whole, texts, texts, whole, st.booleans(), st.floats(0), uses),
    st.builds(ev.Prefetch, whole, texts, texts, whole, st.booleans(), uses),
    st.builds(ev.Pin, whole, texts, whole, st.booleans()),
    st.builds(ev.Freed, texts, whole),
    st.builds(ev.Tick),
)


@given(events, st.floats(0, 1e9))
def test_events_survive_the_log(event: ev.Event, now: float) -> None:
    assert event_log.decode(event_log.encode(event, now)) == (event, now)


def test_errors_survive_the_log() -> None:
    event, _ = event_log.decode(event_log.encode(ev.CopyEnded("a", 3, ChecksumMismatch("damaged")), 1.0))
    assert isinstance(event, ev.CopyEnded)
    assert isinstance(event.error, ChecksumMismatch)


def logged(path: Path, max_bytes: int = 1 << 20, **limits: float) -> tuple[World, event_log.EventLog]:
    """A world with a log of everything that happens to it."""
    world = World.of({"a": 4, "b": 4, "c": 4}, hbm=8, **limits)
    log = event_log.EventLog(path, world.tiers, max_bytes=max_bytes)
    handle = world.tiers.handle
    world.tiers.handle = lambda event, now: (log.write(event, now), handle(event, now))[1]  # type: ignore[method-assign]
    world.attach("w")
    return world, log


def lived(path: Path, max_bytes: int = 1 << 20) -> World:
    world, log = logged(path, max_bytes)
    for expert in ("a", "b", "c", "a"):
        world.now += 1
        request = world.acquire("w", expert)
        world.settle()
        world.release(request)
    log.close()
    return world


def test_replay_ends_in_the_same_state(tmp_path: Path) -> None:
    world = lived(tmp_path / "log")
    tiers, happened = event_log.read(tmp_path / "log")
    for event, now in happened:
        tiers.handle(event, now)
    assert tiers.hbm.entries == world.tiers.hbm.entries
    assert tiers.ddr.entries == world.tiers.ddr.entries


def test_the_previous_manager_s_log_is_kept(tmp_path: Path) -> None:
    lived(tmp_path / "log")
    former = (tmp_path / "log").read_text()
    lived(tmp_path / "log")
    assert (tmp_path / "log.1").read_text() == former


def test_replay_includes_the_effects_of_time(tmp_path: Path) -> None:
    """While nothing happens ticks are not written, but for the one that something came of."""
    world, log = logged(tmp_path / "log", idle_ttl_s=10.0)
    world.release(world.acquire("w", "a"))
    world.settle()
    while not world.evicted:
        world.now += 0.25
        world.send(ev.Tick())
    world.settle()
    world.release(world.acquire("w", "b"))
    world.settle()
    log.close()
    tiers, happened = event_log.read(tmp_path / "log")
    ticks = 0
    for event, now in happened:
        ticks += isinstance(event, ev.Tick)
        tiers.handle(event, now)
        tiers.check_integrity()
    assert tiers.hbm.entries == world.tiers.hbm.entries
    assert 0 < ticks < 10


def test_replay_command(tmp_path: Path) -> None:
    lived(tmp_path / "log")
    arguments = ["replay", str(tmp_path / "log"), "--expert", "c", "--json"]
    result = CliRunner().invoke(build(arguments), arguments)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert lines[-1]["summary"] == {"hits": 0, "misses": 4, "loads": 4, "evictions": 2}
    assert lines[-1]["moved"] == {
        "into_ddr_bytes": 12,
        "into_hbm_bytes": 16,
        "sn40l_s": pytest.approx(12 / 7e9 + 16 / 200e9),
        "sn40l-node_s": pytest.approx(12 / 7e9 + 16 / 1e12),
    }
    assert any("Evicted(expert='a'" in effect for line in lines[:-1] for effect in line["effects"])


def test_a_log_is_bounded_and_rotates_when_the_tiers_are_idle(tmp_path: Path) -> None:
    limits = {"part_share": 0.5, "part_unit": 1, "retry_s": 1e9, "slots": 8}
    world, log = logged(tmp_path / "log", 3000, **limits)
    draw = random.Random(1)
    world.send(ev.Pin(10**6, "b", 4, pinned=True))
    world.settle()
    rotations, began = 0, (tmp_path / "log").stat().st_ino
    for number in range(200):
        world.now += 1
        forecast = (ev.Use("c", draw.random(), 0.5), ev.Use("a", float("inf"), 0.1))
        request = world.acquire("w", draw.choice("ac"), forecast=forecast)
        while number % 7 == 0 and world.copying:
            world.end_copy(TierLoadError("the disk is on fire"))
        world.settle()
        if isinstance(world.answers[request], fx.Grant) and world.answers[request].lease in world.granted:  # type: ignore[union-attr]
            world.release(request)
        if (inode := (tmp_path / "log").stat().st_ino) == began:
            continue
        rotations, began = rotations + 1, inode
    log.close()
    assert rotations > 3
    assert (tmp_path / "log").stat().st_size < 6000
    tiers, happened = event_log.read(tmp_path / "log")
    for event, now in happened:
        tiers.handle(event, now)
        tiers.check_integrity()
    assert tiers.hbm.entries == world.tiers.hbm.entries
    assert tiers.ddr.entries == world.tiers.ddr.entries
    assert snapshot.take(tiers) == snapshot.take(world.tiers)
    assert tiers.leases.next_lease == world.tiers.leases.next_lease


def test_a_log_rotated_while_busy_is_not_replayable(tmp_path: Path) -> None:
    world, log = logged(tmp_path / "log", 600)
    world.acquire("w", "a", resident=True)
    for _ in range(20):
        world.acquire("w", "b", resident=True)
    log.close()
    assert (tmp_path / "log.1").exists()
    with pytest.raises(ArtifactError, match="older part"):
        event_log.read(tmp_path / "log")


def test_a_truncated_last_line_is_ignored_and_other_bad_lines_are_errors(tmp_path: Path) -> None:
    log = tmp_path / "log"
    lived(log)
    lines = log.read_text().splitlines()
    log.write_text("\n".join([*lines, '{"t": 1, "ev']))
    _, happened = event_log.read(log)
    assert len(list(happened)) == len(lines) - 1
    log.write_text("\n".join([lines[0], "nonsense", lines[1]]))
    _, happened = event_log.read(log)
    with pytest.raises(ArtifactError, match=":2"):
        list(happened)


def test_a_full_disk_stops_only_the_log() -> None:
    with capture_logs() as said:
        world, log = logged(Path("/dev/full"))
        for number in range(1000):
            world.send(ev.Attach(f"worker-{number}", number))
        log.flush()
        log.flush()
        world.release(world.acquire("w", "a"))
        log.close()
    (line,) = said
    assert (line["path"], line["reason"]) == ("/dev/full", "No space left on device")


def test_the_error_of_a_log_that_can_not_be_created_names_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match=r"^COE_TIERS_EVENT_LOG: .*/file: File exists$"):
        logged(tmp_path / "file" / "log")


def test_logging_stops_if_rotation_fails(tmp_path: Path) -> None:
    (tmp_path / "log.1").mkdir()
    with capture_logs() as said:
        world, log = logged(tmp_path / "log", 600)
        for number in range(50):
            world.send(ev.Attach(f"worker-{number}", number))
        log.close()
    assert len(said) == 1
    assert (tmp_path / "log").stat().st_size < 2000


def test_unreadable_files_and_files_that_are_not_logs_have_different_errors(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot read the event log"):
        event_log.read(tmp_path / "absent")
    for other in ("{}\n", "[" * 100_000):
        (tmp_path / "other").write_text(other)
        with pytest.raises(ArtifactError, match="is not an event log of this version"):
            event_log.read(tmp_path / "other")
    (tmp_path / "other").write_text("")
    with pytest.raises(ArtifactError, match="is empty"):
        event_log.read(tmp_path / "other")
