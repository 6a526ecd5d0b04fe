"""The engine's side of a step: opens runners, adds and removes sequences, and steps. Blocking; runs in one thread."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

from coe.expert_worker.effects import Emission, Step, StepDone
from coe.experts.conversation import Conversation
from coe.experts.sampling_params import SamplingParams
from coe.platform import logs
from coe.platform.errors import CoEError, InternalError, LeaseLost

_log = logs.get(__name__)
# Open runners to keep. Each holds a tokenizer and little else.
MAX_OPEN = 64


class Runner(Protocol):
    """Continuous batching within one expert (coe.experts.Runner)."""

    @property
    def live(self) -> int: ...

    def add(self, request_id: str, conversation: Conversation, sampling: SamplingParams) -> None: ...

    def step(self, lease: int) -> Sequence[Emission]: ...

    def cancel(self, request_id: str) -> None: ...

    def close(self) -> None: ...


class Runners:
    """`make` opens an expert's runner; `bundle_of` returns the identity of its current bundle (Bundle.identity).

    A runner belongs to one bundle and is replaced when a lease is on the weights of another. `tenants_apart`: a prompt
    never reuses keys and values computed for another tenant's prompts.
    """

    def __init__(
        self,
        make: Callable[[str], Runner],
        bundle_of: Callable[[str], str] = lambda expert_id: "",
        *,
        tenants_apart: bool = False,
    ) -> None:
        self._make = make
        self._bundle_of = bundle_of
        self._tenants_apart = tenants_apart
        self._open: OrderedDict[str, tuple[str, Runner]] = OrderedDict()

    def step(self, step: Step) -> StepDone:
        """Never raises: failures are part of the result."""
        for key in step.leave if step.expert_id in self._open else ():
            self._open[step.expert_id][1].cancel(key)
        try:
            runner = self._runner(step.expert_id, step.grant.bundle)
        except Exception as error:
            # No prompt joined, so all are refused: the loop must not wait for them.
            fault = _fault(step.expert_id, error)
            refused = [(prompt.key, fault) for prompt in step.join]
            answered = refused and not isinstance(fault, LeaseLost)
            return StepDone(step.expert_id, refused=refused, error=None if answered else fault)
        refused = self._join(runner, step)
        try:
            emissions = runner.step(step.grant.handle) if runner.live else ()
        except Exception as error:
            return StepDone(step.expert_id, refused=refused, error=_fault(step.expert_id, error))
        return StepDone(step.expert_id, emissions, refused, live=runner.live)

    def _join(self, runner: Runner, step: Step) -> list[tuple[str, CoEError]]:
        refused: list[tuple[str, CoEError]] = []
        for prompt in step.join:
            asked = prompt.assigned.prompt
            try:
                past = asked.tenant if self._tenants_apart else ""
                runner.add(prompt.key, Conversation.from_proto(asked, past), prompt.sampling)
            except BaseException as error:  # a panic in the tokenizer is not an Exception
                refused.append((prompt.key, _fault(step.expert_id, error)))
        return refused

    def discard(self, expert_id: str) -> None:
        _, runner = self._open.pop(expert_id, ("", None))
        if runner is not None:
            _close(expert_id, runner)

    def close(self) -> None:
        for expert_id in list(self._open):
            self.discard(expert_id)

    def _runner(self, expert_id: str, bundle: str) -> Runner:
        """Raises LeaseLost when the lease is not on the weights of the runner's bundle."""
        known, runner = self._open.get(expert_id, ("", None))
        if runner is not None and known != bundle:
            if runner.live:
                raise LeaseLost("the expert was reimported while it was generating", expert_id=expert_id)
            self.discard(expert_id)
            runner = None
        if runner is None:
            runner = self._make(expert_id)
            if bundle and self._bundle_of(expert_id) != bundle:
                _close(expert_id, runner)
                raise LeaseLost("the expert was reimported while it was being leased", expert_id=expert_id)
            self._open[expert_id] = (bundle, runner)
        self._open.move_to_end(expert_id)
        while len(self._open) > MAX_OPEN:
            oldest, (_, closing) = self._open.popitem(last=False)
            _close(oldest, closing)
        return runner


def _fault(expert_id: str, error: BaseException) -> CoEError:
    if isinstance(error, CoEError):
        return error
    _log.error("the engine failed", expert=expert_id, exc_info=error)
    return InternalError("the expert failed during generation", expert_id=expert_id)


def _close(expert_id: str, runner: Runner) -> None:
    """A runner that failed may also fail to close; its expert gets a new runner all the same."""
    try:
        runner.close()
    except Exception as error:
        _log.error("cannot close a runner", expert=expert_id, exc_info=error)
