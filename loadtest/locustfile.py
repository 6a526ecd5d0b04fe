"""Users for Locust, which is closed-loop: each waits for its answer before it thinks of the next question.

.venv/bin/pip install locust; .venv/bin/locust -f loadtest/locustfile.py --host http://127.0.0.1:8080
"""

import itertools
import json
import time
from typing import Any

from locust import HttpUser, between, task

from loadtest.loadprofile import Prompts
from loadtest.prompts import prompts

_seeds = itertools.count(1)


class ChatUser(HttpUser):  # type: ignore[misc]
    """Streams a chat completion; the time to the first text is an entry of its own in Locust's tables."""

    wait_time = between(1, 3)

    def on_start(self) -> None:
        self._asked = prompts(Prompts(max_tokens=16), seed=next(_seeds))

    @task  # type: ignore[untyped-decorator]
    def ask(self) -> None:
        body = {
            "model": "coe-auto",
            "messages": [{"role": "user", "content": next(self._asked).prompt}],
            "max_tokens": 16,
            "stream": True,
        }
        started = time.perf_counter()
        path = "/v1/chat/completions"
        with self.client.post(path, json=body, stream=True, catch_response=True, name="chat") as answer:
            if answer.status_code != 200:
                answer.failure(f"HTTP {answer.status_code}: {answer.text[:200]}")
                return
            trouble = "no text came"
            for line in answer.iter_lines():
                text, error = _read(line)
                if text and trouble:
                    trouble = ""
                    self._first_text(started)
                trouble = error or trouble
            # Locust's own time ends with the headers.
            answer.request_meta["response_time"] = (time.perf_counter() - started) * 1000
            if trouble:
                answer.failure(trouble)

    def _first_text(self, started: float) -> None:
        self.environment.events.request.fire(
            request_type="SSE",
            name="chat, first text",
            response_time=(time.perf_counter() - started) * 1000,
            response_length=0,
            exception=None,
            context={},
        )


def _read(line: bytes) -> tuple[str, str]:
    """The text of an event, and the error that it tells of."""
    data = line.removeprefix(b"data: ")
    if not data or data == b"[DONE]":
        return "", ""
    chunk: dict[str, Any] = json.loads(data)
    if error := chunk.get("error"):
        return "", f"{error['code']}: {error['message']}"
    return "".join(choice["delta"].get("content") or "" for choice in chunk.get("choices", ())), ""
