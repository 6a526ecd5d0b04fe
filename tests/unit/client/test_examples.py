"""Programs on a page are those of docs/examples, which the end-to-end tests run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("name", ["ask.py", "ask_with_client.py"])
def test_the_page_shows_the_program_that_is_run(name: str) -> None:
    _, _, program = (DOCS / "examples" / name).read_text().partition('"""\n\n')
    assert f"```python\n{program}```" in (DOCS / "life-of-a-prompt.md").read_text()


# A broker that takes the prompt, and of which nothing comes. Each look at it takes half a minute.
_SILENT = """
import time
from types import SimpleNamespace as Facts

class Producer:
    def __init__(self, options): pass
    def produce(self, *_, **__): pass
    def flush(self): pass

class Consumer:
    def __init__(self, options): pass
    def list_topics(self, topic, timeout): return Facts(topics={topic: Facts(partitions=[0])})
    def get_watermark_offsets(self, partition, timeout): return 0, 0
    def assign(self, partitions): pass
    def close(self): pass
    def poll(self, seconds):
        now = time.time_ns() + 30_000_000_000
        time.time_ns = lambda: now

class TopicPartition:
    def __init__(self, topic, number): pass
"""


# One that answers with a chunk and a terminal event.
_ANSWERS = """
import json

class Message:
    def __init__(self, key, topic, event): self._key, self._topic, self._value = key.encode(), topic, json.dumps(event)
    def key(self): return self._key
    def topic(self): return self._topic
    def value(self): return self._value
    def error(self): return None

class Producer(Producer):
    def produce(self, topic, value, key, headers):
        sent.extend([
            Message(key, "coe.tokens.v1", {"text": {"text": "Hi"}}),
            Message(key, "coe.completions.v1", {"completion": {"text": "Hi"}}),
        ])

class Consumer(Consumer):
    def poll(self, seconds): return sent.pop(0)

sent = []
"""


def test_a_program_shows_the_answer_apart_from_what_came_of_it(tmp_path: Path) -> None:
    (tmp_path / "confluent_kafka.py").write_text(_SILENT + _ANSWERS)
    command = [sys.executable, str(DOCS / "examples" / "ask.py"), "127.0.0.1:9", "Hello"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hi\n", "Hi\n")


def test_a_program_does_not_wait_for_ever(tmp_path: Path) -> None:
    (tmp_path / "confluent_kafka.py").write_text(_SILENT)
    command = [sys.executable, str(DOCS / "examples" / "ask.py"), "127.0.0.1:9", "Hello"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "no answer\n")
