"""Serves one peer over a pipe: one request per line on stdin, one answer per line on stdout.

The first line written is {"version", "settings"}. A request {"phase", "prompt", "depth", "batch", "steps"} is answered
with {"seconds"} for the whole batch, and {"phase": "load"} with the seconds to load the model again. If the peer can't
do it, the answer is {"error"}.
"""

import importlib
import json
import os
import sys
from typing import Any, Protocol

FIRST_TOKEN = 100  # for every sequence of every peer, as their time does not depend on the tokens


class Subject(Protocol):
    version: str
    settings: str

    def prefill(self, prompt: int, batch: int) -> float: ...

    def decode(self, depth: int, batch: int, steps: int) -> float: ...

    def load(self) -> float: ...


def serve(subject: Subject, answers: Any) -> None:
    def answer(document: dict[str, object]) -> None:
        answers.write(json.dumps(document) + "\n")
        answers.flush()

    answer({"version": subject.version, "settings": subject.settings})
    for line in sys.stdin:
        try:
            answer({"seconds": measure(subject, json.loads(line))})
        except Exception as error:  # a runtime may raise anything for a shape that it can't run
            answer({"error": f"{type(error).__name__}: {error}"})


def measure(subject: Subject, request: dict[str, Any]) -> float:
    if request["phase"] == "load":
        return subject.load()
    if request["phase"] == "prefill":
        return subject.prefill(request["prompt"], request["batch"])
    return subject.decode(request["depth"], request["batch"], request["steps"])


if __name__ == "__main__":
    # Runtimes may print to stdout. The pipe is kept for answers, and their output is redirected to stderr.
    pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    name, model, threads, sequences = sys.argv[1:]
    serve(importlib.import_module(f"{name}_subject").Subject(model, int(threads), int(sequences)), pipe)
