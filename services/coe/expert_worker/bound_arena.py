"""The arena that the graph reads its weights from. All in the engine's thread, between two steps, but for `gone`."""

import uuid
from pathlib import Path

from coe.native import HbmArena
from coe.platform import logs
from coe.platform.errors import CoEError

_log = logs.get(__name__)
SHARED_MEMORY = Path("/dev/shm")


class BoundArena:
    """One at a time. An arena whose manager stopped has lost its name, but keeps its memory while somebody maps it:
    the next manager may have no room for its own before we let go."""

    def __init__(self) -> None:
        self._arena: HbmArena | None = None
        # It is one that nobody but us has seen.
        self._is_nothing = False

    @property
    def gone(self) -> bool:
        """It has no name any more: no manager will go on with it, and every lease on it is stale."""
        arena = self._arena
        return arena is not None and not self._is_nothing and not (SHARED_MEMORY / arena.name.lstrip("/")).exists()

    def bind(self, name: str) -> None:
        """From the next step on, leases are looked up in this arena."""
        self._follow(HbmArena.attach(name))
        self._is_nothing = False

    def let_go(self) -> None:
        """If it is gone, all leases are stale from now on, and its memory can be given back."""
        if self._arena is None or not self.gone:
            return
        try:
            # One arena is always bound: this has no experts, as many slots, and a few megabytes.
            nothing = HbmArena.create(f"coe-nothing-{uuid.uuid4().hex[:12]}", 1, self._arena.slots)
        except CoEError as error:
            _log.warning("the memory of a removed arena could not be released", reason=error.message)
            return
        _log.info("released the memory of a removed arena", arena=self._arena.name)
        nothing.unlink()
        self._follow(nothing)
        self._is_nothing = True

    def close(self) -> None:
        if self._arena is not None:
            self._arena.close()
            self._arena = None

    def _follow(self, arena: HbmArena) -> None:
        former, self._arena = self._arena, arena
        arena.bind()
        if former is not None:
            former.close()
