"""The arena that the graph reads its weights from. Except for `gone`, called in the engine's thread between steps."""

import uuid
from pathlib import Path

from coe.native import HbmArena
from coe.platform import logs
from coe.platform.errors import CoEError

_log = logs.get(__name__)
SHARED_MEMORY = Path("/dev/shm")


class BoundArena:
    """Binds one arena at a time. When a manager stops, its arena loses its name but keeps its memory for as long as
    some process maps it. The next manager may have no room for its own arena until we unmap the old one."""

    def __init__(self) -> None:
        self._arena: HbmArena | None = None
        # Whether the bound arena is our own empty placeholder.
        self._is_nothing = False

    @property
    def gone(self) -> bool:
        """The arena's name is gone: no manager will take it over, and every lease on it is stale."""
        arena = self._arena
        return arena is not None and not self._is_nothing and not (SHARED_MEMORY / arena.name.lstrip("/")).exists()

    def bind(self, name: str) -> None:
        """Leases are looked up in this arena from the next step on."""
        self._follow(HbmArena.attach(name))
        self._is_nothing = False

    def let_go(self) -> None:
        """If the arena is gone, unmaps it, so that its memory can be freed. All leases are stale from then on."""
        if self._arena is None or not self.gone:
            return
        try:
            # An arena must always be bound. This one has no experts, as many slots, and takes a few megabytes.
            nothing = HbmArena.create(f"coe-nothing-{uuid.uuid4().hex[:12]}", 1, self._arena.slots)
        except CoEError as error:
            _log.warning("cannot release the memory of a removed arena", reason=error.message)
            return
        _log.info("arena was removed: releasing its memory", arena=self._arena.name)
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
