"""Logs the run loop's events as JSON lines: enough to replay them and find out why something happened.

The first line of a file holds limits, eviction policy, default experts and the first lease id. Every other line is one
event with its time. When a file has reached its size limit, it is rotated to NAME.1 (replacing the previous one) the
next time the manager is idle, and the first line of the new file also holds a snapshot of the tiers. If the manager is
never idle, the file grows to twice its limit, and the new file is marked as not replayable. At startup the previous
manager's file is rotated to NAME.1 too, because whoever wants to know why that manager stopped looks when the next one
is running.

If the log can't be written (on a full disk, say), logging stops there and the manager carries on.
"""

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager import snapshot
from coe.memory_tier_manager.core import Tiers
from coe.memory_tier_manager.eviction import EVICTION
from coe.memory_tier_manager.requests import Limits
from coe.platform import logs
from coe.platform.errors import ArtifactError, from_code

_log = logs.get(__name__)

# Event fields that hold tuples of other dataclasses.
_PARTS: dict[str, type] = {"forecast": ev.Use, "held": ev.Held, "residents": ev.Resident}
_EVENTS: dict[str, type] = {kind.__name__: kind for kind in ev.Event.__args__}


class EventLog:
    """`write` is buffered: call `flush` periodically. Raises ArtifactError if the file can't be created."""

    def __init__(self, path: Path, tiers: Tiers, *, max_bytes: int) -> None:
        self._path = path
        self._tiers = tiers
        self._max_bytes = max_bytes
        # The last tick of an idle manager, not yet written.
        self._quiet = ""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file():
                self._set_aside()
            # None once logging has stopped.
            self._file: IO[str] | None = self._begin({}, whole=True)
        except OSError as error:
            raise ArtifactError(f"COE_TIERS_EVENT_LOG: {error.filename}: {error.strerror}") from error

    def write(self, event: ev.Event, now: float) -> None:
        with self._while_it_can() as file:
            if file is None:
                return
            file = self._rotated(file)
            if isinstance(event, ev.Tick) and self._tiers.idle:
                # Keep only the last of consecutive idle ticks: had an earlier one had effects, no idle tick would
                # have followed it.
                self._quiet = encode(event, now) + "\n"
                return
            file.write(self._quiet + encode(event, now) + "\n")
            self._quiet = ""

    def flush(self) -> None:
        with self._while_it_can() as file:
            if file is not None:
                file.flush()

    def close(self) -> None:
        with self._while_it_can() as file:
            if file is not None:
                file.close()

    @contextmanager
    def _while_it_can(self) -> Iterator[IO[str] | None]:
        try:
            yield self._file
        except OSError as error:
            _log.warning("cannot write the event log: logging stops", path=str(self._path), reason=error.strerror)
            file, self._file = self._file, None
            if file is not None:
                with suppress(OSError):
                    file.close()

    def _rotated(self, file: IO[str]) -> IO[str]:
        """Rotates the file when it is time. The tiers have handled every event logged so far and none after that."""
        written, at_rest = file.tell(), self._tiers.idle
        if written > 2 * self._max_bytes or (written > self._max_bytes and at_rest):
            file.write(self._quiet)
            self._quiet = ""
            file.close()
            self._set_aside()
            file = self._file = self._begin(snapshot.take(self._tiers) if at_rest else {}, whole=at_rest)
        return file

    def _set_aside(self) -> None:
        self._path.replace(self._path.with_name(f"{self._path.name}.1"))

    def _begin(self, state: dict[str, Any], *, whole: bool) -> IO[str]:
        file = self._path.open("w")
        head = {
            "limits": dataclasses.asdict(self._tiers.limits),
            "eviction": self._tiers.weights.policy.name,
            "defaults": self._tiers.defaults,
            "first_lease": self._tiers.leases.next_lease,
            "whole": whole,
            "state": state,
        }
        file.write(json.dumps(head) + "\n")
        return file


def encode(event: ev.Event, now: float) -> str:
    fields: dict[str, Any] = {
        field.name: getattr(event, field.name) for field in dataclasses.fields(cast("Any", event))
    }
    for name in _PARTS.keys() & fields.keys():
        fields[name] = [dataclasses.astuple(part) for part in fields[name]]
    if isinstance(event, ev.CopyEnded) and event.error is not None:
        fields["error"] = {"code": event.error.code, "message": event.error.message}
    return json.dumps({"t": now, "event": type(event).__name__, **fields})


def decode(line: str) -> tuple[ev.Event, float]:
    """Raises ValueError if the line is not an event of this version."""
    try:
        fields = json.loads(line)
        kind, now = _EVENTS[fields.pop("event")], float(fields.pop("t"))
        for name in _PARTS.keys() & fields.keys():
            fields[name] = tuple(_PARTS[name](*part) for part in fields[name])
        if fields.get("error"):
            fields["error"] = from_code(**fields["error"])
        return kind(**fields), now
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"not an event of this version: {error!r}") from error


def read(path: Path) -> tuple[Tiers, Iterator[tuple[ev.Event, float]]]:
    """The tiers as they were when the log began, and its events. Raises ArtifactError, also during iteration."""
    try:
        lines = path.read_text().splitlines()
        if not lines:
            raise ArtifactError(f"the event log {path} is empty")
        head = json.loads(lines[0])
        tiers = Tiers(Limits(**head["limits"]), EVICTION[head["eviction"]], head["defaults"], head["first_lease"])
        whole = head["whole"]
        if head["state"]:
            snapshot.put(tiers, head["state"])
    except OSError as error:
        raise ArtifactError(f"cannot read the event log {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, IndexError, RecursionError) as error:
        raise ArtifactError(f"{path} is not an event log of this version: {error}") from error
    if not whole:
        raise ArtifactError(
            f"cannot replay {path}: the older part of the log was dropped while weights were being moved"
        )
    return tiers, _events(path, lines)


def _events(path: Path, lines: list[str]) -> Iterator[tuple[ev.Event, float]]:
    for number, line in enumerate(lines[1:], 2):
        try:
            event, now = decode(line)
        except ValueError as error:
            if number == len(lines):
                return  # the process died while writing it
            raise ArtifactError(f"{path}:{number}: {error}") from error
        yield event, now
