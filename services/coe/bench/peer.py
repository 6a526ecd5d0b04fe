"""A peer runtime in a process of its own, asked over a pipe."""

import json
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from coe.platform.errors import Unavailable

SCRIPTS = Path(__file__).parent / "peers"


class Peer:
    """Runs `peers/<script>.py` with an interpreter that has the peer installed. Raises Unavailable when it fails."""

    def __init__(self, script: str, interpreter: str, *arguments: object) -> None:
        command = [interpreter, str(SCRIPTS / f"{script}.py"), *map(str, arguments)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._script = script
        greeting = self._answer()
        self.version = str(greeting["version"])
        self.load_s = float(greeting["load_s"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        self.close()
        raise Unavailable(f"the peer {self._script} ended: is it installed for this interpreter?")

    def measure(self, prompt: int, decode: int, batch: int) -> tuple[float, float]:
        """Seconds of prefill and of decode."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"prompt": prompt, "decode": decode, "batch": batch}) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        return float(answer["prefill_s"]), float(answer["decode_s"])

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
