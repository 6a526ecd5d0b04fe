"""Keeps one server running: tracks its state, restarts it with back-off, and fails if it exits too often."""

import asyncio
from collections.abc import Callable
from enum import StrEnum

from coe.local.restart import RestartHistory, RestartPolicy
from coe.local.server import LocalServer
from coe.platform.errors import Unavailable


class State(StrEnum):
    WAITING = "waiting"
    STARTING = "starting"
    SERVING = "serving"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class Supervised:
    """`on_change(self)` is called after every change of state."""

    def __init__(
        self,
        name: str,
        server: LocalServer,
        *,
        address: str,
        restarts: RestartPolicy,
        on_change: Callable[["Supervised"], None],
    ) -> None:
        self.name = name
        self.server = server
        self.address = address
        self.state = State.WAITING
        # Why it last exited or failed to start; empty if it never did.
        self.trouble = ""
        self._history = RestartHistory(restarts)
        self._on_change = on_change

    @property
    def pid(self) -> int | None:
        child = self.server.child
        return child.pid if child is not None and child.running else None

    @property
    def restarts(self) -> int:
        return self._history.restarts

    async def start(self) -> None:
        self._enter(State.STARTING)
        try:
            await self.server.start()
        except Unavailable as error:
            self.trouble = error.message
            self._enter(State.FAILED)
            raise
        self._enter(State.SERVING)

    async def keep(self) -> None:
        """Restarts it whenever it exits, until cancelled. Raises Unavailable when no more restarts are allowed."""
        while True:
            await self._ended()
            delay = self._history.after_end(asyncio.get_running_loop().time())
            if delay is None:
                self._enter(State.FAILED)
                raise Unavailable(f"{self.name} {self.trouble}", process=self.name)
            self._enter(State.RESTARTING)
            await asyncio.sleep(delay)
            try:
                await self.server.start()
            except Unavailable as error:
                # It is shown next to the name.
                self.trouble = error.message.removeprefix(f"{self.name} ")
                await self.server.stop()
            else:
                self._enter(State.SERVING)

    async def _ended(self) -> None:
        """Returns once there is no process. Sets `trouble` to the cause, unless a failed start already has."""
        child = self.server.child
        if child is None:
            return
        status = await child.wait()
        reason = child.why_ended()
        self.trouble = f"ended with status {status}{f': {reason}' if reason else ''}; its log: {child.log}"

    async def stop(self) -> None:
        if self.server.child is None:
            return
        self._enter(State.STOPPING)
        await self.server.stop()
        self._enter(State.STOPPED)

    async def kill(self) -> None:
        """Kills it. Does nothing if it has exited."""
        if (child := self.server.child) is not None and child.running:
            child.kill()
            await child.wait()

    def _enter(self, state: State) -> None:
        self.state = state
        self._on_change(self)
