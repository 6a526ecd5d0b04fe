"""Users for Locust, which is closed-loop: each user waits for its answer before asking the next question.

.venv/bin/pip install locust; .venv/bin/locust -f loadtest/locustfile.py --host http://127.0.0.1:8080

For an https:// host, COE_TLS_CA verifies its certificate, and COE_TLS_CERT and COE_TLS_KEY are the client's. For a
gateway that requires a key, set COE_API_KEY.
"""

import itertools
import json
import os
import time
from collections.abc import Iterator
from typing import Any

from locust import HttpUser, between, task

from loadtest.loadprofile import Prompts
from loadtest.prompts import prompts

_seeds = itertools.count(1)
# A stream silent for this long is dead: the gateway sends at least a comment every 15 s.
_SILENCE_S = 60.0


class ChatUser(HttpUser):  # type: ignore[misc]
    """Streams a chat completion; the time to the first text is a separate entry in Locust's tables."""

    wait_time = between(1, 3)

    def on_start(self) -> None:
        self._asked = prompts(Prompts(max_tokens=16), seed=next(_seeds))
        # Locust's sessions ignore the environment variables of `requests`.
        self.client.verify = os.environ.get("COE_TLS_CA") or True
        if certificate := os.environ.get("COE_TLS_CERT"):
            self.client.cert = (certificate, os.environ.get("COE_TLS_KEY"))
        if key := os.environ.get("COE_API_KEY"):
            self.client.headers["authorization"] = f"Bearer {key}"

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
        settings = {"stream": True, "catch_response": True, "timeout": _SILENCE_S, "name": "chat"}
        with self.client.post(path, json=body, **settings) as answer:
            trouble = self._read(answer, started)
            # Locust stops its timer at the headers.
            answer.request_meta["response_time"] = (time.perf_counter() - started) * 1000
            if trouble:
                answer.failure(trouble)

    def _read(self, answer: Any, started: float) -> str:
        """The failure, or "" for none."""
        if answer.status_code != 200:
            # 0: no response, only a reason.
            return f"HTTP {answer.status_code}: {getattr(answer, 'error', None) or answer.text[:200]}"
        texts = 0
        try:
            for chunk in _chunks(answer.iter_lines()):
                if error := chunk.get("error"):
                    return f"{error['code']}: {error['message']}"
                if any(choice["delta"].get("content") for choice in chunk["choices"]):
                    texts += 1
                    if texts == 1:
                        self._first_text(started)
        except (OSError, ValueError) as error:  # includes those of `requests`
            return f"the answer was cut off: {error}"
        return "" if texts else "no text in the answer"

    def _first_text(self, started: float) -> None:
        self.environment.events.request.fire(
            request_type="SSE",
            name="chat, first text",
            response_time=(time.perf_counter() - started) * 1000,
            response_length=0,
            exception=None,
            context={},
        )


def _chunks(lines: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    """The data chunks, without keep-alive comments. Raises ValueError if the stream does not end with [DONE]."""
    done = False
    for line in lines:
        field, _, data = line.partition(b":")
        if field == b"data":
            done = data.strip() == b"[DONE]"
            if not done:
                yield json.loads(data)
    if not done:
        raise ValueError("it did not end with [DONE]")
