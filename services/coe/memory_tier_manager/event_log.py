"""The run loop's events as JSON lines: enough to live through them again, for whoever asks why something happened.

The first line of a file tells limits, eviction policy, default experts and where leases begin; each other line is one
event with its time. A file that has grown to its limit becomes NAME.1 at the next moment of rest (the former NAME.1 is
dropped), and the first line of the new one also tells how the tiers were then. Without such a moment it grows to twice
its limit; the new one says then that it can't be lived through. The file of the manager before becomes NAME.1 too: who
looks for why that one ended comes when the next one runs.

A log that can't be written, as on a full disk, ends there: it is for looking back, and what it is about goes on.
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

# Fields that hold events' parts.
_PARTS: dict[str, type] = {"forecast": ev.Use, "held": ev.Held, "residents": ev.Resident}
_EVENTS: dict[str, type] = {kind.__name__: kind for kind in ev.Event.__args__}


class EventLog:
    """`write` is buffered; call `flush` now and then. Raises ArtifactError when it can't begin."""

    def __init__(self, path: Path, tiers: Tiers, *, max_bytes: int) -> None:
        self._path = path
        self._tiers = tiers
        self._max_bytes = max_bytes
        # The last tick of an idle manager, not written yet.
        self._quiet = ""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file():
                self._set_aside()
            # None: it has ended.
            self._file: IO[str] | None = self._begin({}, whole=True)
        except OSError as error:
            raise ArtifactError(f"COE_TIERS_EVENT_LOG: {error.filename}: {error.strerror}") from error

    def write(self, event: ev.Event, now: float) -> None:
        with self._while_it_can() as file:
            if file is None:
                return
            file = self._rotated(file)
            if isinstance(event, ev.Tick) and self._tiers.idle:
                # Of those in a row only the last one can have had effects, or what follows would be no tick.
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
            _log.warning("the event log can't be written and ends here", path=str(self._path), reason=error.strerror)
            file, self._file = self._file, None
            if file is not None:
                with suppress(OSError):
                    file.close()

    def _rotated(self, file: IO[str]) -> IO[str]:
        """A new file when it is time. What the log tells so far has happened to the tiers, what comes next has not."""
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
    """Raises ValueError for a line that is not an event of this version."""
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
    """Tiers as they were when the log began, and its events. Raises ArtifactError, also while iterating."""
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
        raise ArtifactError(f"{path} starts while weights were moving: an older part of the log was dropped")
    return tiers, _events(path, lines)


def _events(path: Path, lines: list[str]) -> Iterator[tuple[ev.Event, float]]:
    for number, line in enumerate(lines[1:], 2):
        try:
            event, now = decode(line)
        except ValueError as error:
            if number == len(lines):
                return  # the process died while it wrote
            raise ArtifactError(f"{path}:{number}: {error}") from error
        yield event, now
