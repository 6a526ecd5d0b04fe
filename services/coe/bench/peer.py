"""A peer runtime in its own process, controlled over a pipe."""

import json
import os
import selectors
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from coe.bench.cases import Case
from coe.platform.errors import Unavailable

SERVE = Path(__file__).parent / "peers" / "serve.py"
ANSWER_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class PeerModel:
    """A column of the table: the runtime, and the model in the format of that runtime."""

    column: str
    runtime: str
    path: Path


class Peer:
    """Runs `peers/serve.py` with an interpreter that has the runtime. Raises Unavailable if it exits or hangs.

    `environment`: by default that of this process, without PYTHONPATH.
    """

    def __init__(
        self,
        model: PeerModel,
        interpreter: Path,
        threads: int,
        sequences: int,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.column = model.column
        self._log = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 - closed with the peer
        command = [str(interpreter), str(SERVE), model.runtime, str(model.path), str(threads), str(sequences)]
        if environment is None:
            environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, env=environment
        )
        try:
            greeting = self._answer()
        except BaseException:
            self.close()
            raise
        self.version = str(greeting["version"])
        self.settings = str(greeting["settings"])

    def seconds(self, case: Case, steps: int) -> float:
        """Returns the seconds of the case, over all its sequences."""
        return self._ask({**asdict(case), "steps": steps})

    def load_seconds(self) -> float:
        """Returns the seconds to load the model again, from the page cache."""
        return self._ask({"phase": "load"})

    def _ask(self, request: dict[str, object]) -> float:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Unavailable(f"the peer {self.column} exited: {self._last_words()}") from None
        answer = self._answer()
        if "error" in answer:
            raise Unavailable(f"the peer {self.column} can't: {answer['error']}")
        return float(answer["seconds"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(ANSWER_TIMEOUT_S):
                raise Unavailable(f"the peer {self.column} gave no answer in {ANSWER_TIMEOUT_S:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise Unavailable(f"the peer {self.column} exited: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
