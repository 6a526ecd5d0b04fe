"""Limits the concurrent prompts of each tenant, so that none can occupy the whole gateway."""

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

from coe._proto import events_pb2
from coe.client.events import Event
from coe.platform.errors import CapacityExceeded


class Prompts(Protocol):
    """Submits prompts. Implemented by coe.client.PromptClient."""

    def submit(self, prompt: events_pb2.PromptSubmitted, *, timeout_s: float) -> AsyncGenerator[Event, None]: ...


class TenantPrompts:
    """Allows each tenant at most `most` concurrent prompts. Prompts without a tenant are not limited."""

    def __init__(self, prompts: Prompts, most: int) -> None:
        self._prompts = prompts
        self._most = most
        self._followed: Counter[str] = Counter()

    async def submit(self, prompt: events_pb2.PromptSubmitted, *, timeout_s: float) -> AsyncGenerator[Event, None]:
        """Raises CapacityExceeded if the tenant is at its limit."""
        tenant = prompt.tenant
        if tenant and self._followed[tenant] >= self._most:
            raise CapacityExceeded(
                f"{self._most} prompts of {tenant!r} are already running, the maximum", tenant=tenant
            )
        self._followed[tenant] += 1
        try:
            async with aclosing(self._prompts.submit(prompt, timeout_s=timeout_s)) as events:
                async for event in events:
                    yield event
        finally:
            self._followed[tenant] -= 1
            if not self._followed[tenant]:
                del self._followed[tenant]
