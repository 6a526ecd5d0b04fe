"""The engine's side of a step: opens runners, lets sequences join and leave, steps. Blocking: runs in one thread."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

from coe.expert_worker.effects import Emission, Step, StepDone
from coe.experts.sampling_params import SamplingParams
from coe.platform import logs
from coe.platform.errors import CoEError, InternalError

_log = logs.get(__name__)
# Open runners hold a tokenizer and little else.
MAX_OPEN = 64


class Runner(Protocol):
    """Continuous batching within one expert (coe.experts.Runner)."""

    @property
    def live(self) -> int: ...

    def add(
        self, request_id: str, messages: list[dict[str, str]] | None, prompt: str | None, sampling: SamplingParams
    ) -> None: ...

    def step(self, lease: int) -> Sequence[Emission]: ...

    def cancel(self, request_id: str) -> None: ...

    def close(self) -> None: ...


class Runners:
    """`make` opens the runner of an expert."""

    def __init__(self, make: Callable[[str], Runner]) -> None:
        self._make = make
        self._open: OrderedDict[str, Runner] = OrderedDict()

    def step(self, step: Step) -> StepDone:
        """Never raises: a fault is the result."""
        try:
            runner = self._runner(step.expert_id)
        except Exception as error:
            # Nobody joined, and what did not join must not be waited for.
            fault = _fault(step.expert_id, error)
            refused = [(prompt.key, fault) for prompt in step.join]
            return StepDone(step.expert_id, refused=refused, error=None if refused else fault)
        for key in step.leave:
            runner.cancel(key)
        refused = self._join(runner, step)
        try:
            emissions = runner.step(step.grant.handle) if runner.live else ()
        except Exception as error:
            return StepDone(step.expert_id, refused=refused, error=_fault(step.expert_id, error))
        return StepDone(step.expert_id, emissions, refused)

    @staticmethod
    def _join(runner: Runner, step: Step) -> list[tuple[str, CoEError]]:
        refused: list[tuple[str, CoEError]] = []
        for prompt in step.join:
            submitted = prompt.assigned.prompt
            messages = [{"role": turn.role, "content": turn.content} for turn in submitted.messages]
            text = submitted.prompt if not messages else None
            try:
                runner.add(prompt.key, messages or None, text, prompt.sampling)
            except BaseException as error:  # a panic of the tokenizer is no Exception
                refused.append((prompt.key, _fault(step.expert_id, error)))
        return refused

    def discard(self, expert_id: str) -> None:
        runner = self._open.pop(expert_id, None)
        if runner is not None:
            _close(expert_id, runner)

    def close(self) -> None:
        for expert_id in list(self._open):
            self.discard(expert_id)

    def _runner(self, expert_id: str) -> Runner:
        runner = self._open.get(expert_id)
        if runner is None:
            runner = self._open[expert_id] = self._make(expert_id)
        self._open.move_to_end(expert_id)
        while len(self._open) > MAX_OPEN:
            _close(*self._open.popitem(last=False))
        return runner


def _fault(expert_id: str, error: BaseException) -> CoEError:
    if isinstance(error, CoEError):
        return error
    _log.error("the engine failed", expert=expert_id, exc_info=error)
    return InternalError("the expert failed while it generated", expert_id=expert_id)


def _close(expert_id: str, runner: Runner) -> None:
    """A runner that failed may fail to close too: its expert starts anew all the same."""
    try:
        runner.close()
    except Exception as error:
        _log.error("a runner could not be closed", expert=expert_id, exc_info=error)
