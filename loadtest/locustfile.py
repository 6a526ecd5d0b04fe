"""Users for Locust, which is closed-loop: each waits for its answer before it thinks of the next question.

.venv/bin/pip install locust; .venv/bin/locust -f loadtest/locustfile.py --host http://127.0.0.1:8080

A host with https:// is trusted by COE_TLS_CA, and shown COE_TLS_CERT and COE_TLS_KEY; a gateway that wants a key gets
COE_API_KEY.
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
# A stream that says nothing for so long is lost: the gateway sends at least a comment every 15 s.
_SILENCE_S = 60.0


class ChatUser(HttpUser):  # type: ignore[misc]
    """Streams a chat completion; the time to the first text is an entry of its own in Locust's tables."""

    wait_time = between(1, 3)

    def on_start(self) -> None:
        self._asked = prompts(Prompts(max_tokens=16), seed=next(_seeds))
        # Locust's sessions read no settings of `requests` from the environment.
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
            # Locust's own time ends with the headers.
            answer.request_meta["response_time"] = (time.perf_counter() - started) * 1000
            if trouble:
                answer.failure(trouble)

    def _read(self, answer: Any, started: float) -> str:
        """What went wrong; "" when nothing did."""
        if answer.status_code != 200:
            # 0: there is no answer, but a reason.
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
        except (OSError, ValueError) as error:  # those of `requests` are among them
            return f"the answer broke off: {error}"
        return "" if texts else "no text came"

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
    """Without comments, which say that the stream lives. Raises ValueError when its end does not come."""
    done = False
    for line in lines:
        field, _, data = line.partition(b":")
        if field == b"data":
            done = data.strip() == b"[DONE]"
            if not done:
                yield json.loads(data)
    if not done:
        raise ValueError("its end did not come")
