"""Turns a record of the assignments topic into a prompt that can run, or into the terminal error that answers it."""

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count

from coe._proto import events_pb2
from coe.expert_worker.prompt import Prompt, admit, decode
from coe.platform import prompts
from coe.platform.bus.api import Outcome, Record
from coe.platform.errors import CoEError, InternalError
from coe.platform.terminal import error_outcome

# Deliveries to workers before a prompt ends with an error. Drains and rebalances count too.
MAX_ATTEMPTS = 8


class Intake:
    """`known` returns the identity of an expert's bundle, or raises CoEError if this worker can't run it. `clock` is
    the loop's. `max_attempts`: a prompt delivered this often without ending may be what crashes the workers, and ends
    with an error."""

    def __init__(
        self,
        known: Callable[[str], str],
        clock: Callable[[], float],
        *,
        max_prompt_bytes: int,
        worker: str,
        max_attempts: int = MAX_ATTEMPTS,
    ) -> None:
        self._known = known
        self._clock = clock
        self._max_prompt_bytes = max_prompt_bytes
        self._worker = worker
        self._max_attempts = max_attempts
        self._keys = map(str, count())

    def receive(self, record: Record, attempt: int) -> Prompt | Outcome:
        assigned: events_pb2.PromptAssigned | None = None
        now_ms = time.time_ns() // 1_000_000
        try:
            assigned = decode(record)
            if attempt >= self._max_attempts:
                raise InternalError(f"{attempt} workers in succession took the prompt and none answered it")
            prompts.check(assigned.prompt, max_bytes=self._max_prompt_bytes)
            bundle = self._known(assigned.assignment.expert_id)
            key = next(self._keys)
            return admit(record, assigned, key=key, attempt=attempt, now=self._clock(), wall_ms=now_ms, bundle=bundle)
        except CoEError as error:
            ended = error_outcome(
                record,
                assigned.prompt if assigned is not None else None,
                error,
                routing=assigned.routing if assigned is not None else None,
                assignment=assigned.assignment if assigned is not None else None,
                attempt=attempt,
                worker=self._worker,
                now_ms=now_ms,
            )
            # Kept as a dead letter too, to find out what it does to a worker.
            return replace(ended, dead_letter=error) if isinstance(error, InternalError) else ended
