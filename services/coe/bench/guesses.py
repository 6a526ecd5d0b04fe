"""`coe bench guesses`: the speedup from guessing tokens, by task. Answers alternate with and without guesses."""

import heapq
import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass

from coe.bench.clock import median_rounds, timed
from coe.experts.bundle import Bundle
from coe.experts.conversation import Conversation
from coe.experts.runner import Runner
from coe.experts.sampling_params import SamplingParams
from coe.experts.sequence import Emission
from coe.experts.single import Hosted
from coe.experts.step_plan import GUESSES

# Prose and code that are present on every machine.
_PROSE = " ".join(heapq.__about__.split())[:1500]
_CODE = inspect.getsource(heapq.nlargest)
# Ordered by how much of the answer can be found in the prompt.
TASKS = {
    "quote": f"Repeat this text word for word:\n\n{_PROSE[:800]}",
    "summarise": f"Summarise the following text in three sentences:\n\n{_PROSE}",
    "change code": f"Add type hints to this code and give all of it back:\n\n```python\n{_CODE}\n```",
    "question on a text": f"Context: {_PROSE}\n\nQuestion: How are the elements of a heap compared? Quote the context.",
    "write code": "Write a Python function that returns the n-th Fibonacci number, with a docstring and tests.",
    "list": "List ten tips for learning a language.",
    "sums": "What is 17 times 23? Explain step by step.",
    "essay": "Write an essay on the history of the steam engine.",
    "story": "Tell me a short story of a lighthouse keeper.",
}


@dataclass(frozen=True)
class Task:
    """Figures for the tokens after the first. `ratio`: above 1, guessing is faster."""

    task: str
    tokens: int
    steps: int
    guessed: int
    right: int
    tokens_s: float
    plain_tokens_s: float
    ratio: float


def run(bundle: Bundle, threads: int, rounds: int, tokens: int) -> dict[str, object]:
    """Returns the result as one object. `same`: whether the answers are identical with and without guesses.

    Answers are greedy, up to `tokens` long, and generated one at a time.
    """
    with Hosted.load(bundle, threads=threads, guesses=GUESSES) as hosted:
        hosted.wait_loaded()
        params = SamplingParams(max_tokens=tokens, seed=0)
        plain = hosted.engine.runner(bundle, guesses=0)
        tasks, same = [], True
        for name, prompt in TASKS.items():
            answers = {runner: _Answer(runner, hosted.lease, prompt, params) for runner in (hosted.runner, plain)}
            guessing, without = answers.values()
            seconds = median_rounds({"guessing": guessing.decode, "plain": without.decode}, rounds).seconds
            same = same and guessing.text == without.text
            tasks.append(guessing.task(name, seconds["guessing"], seconds["plain"]))
        return {
            "bench": "guesses",
            "model": bundle.id,
            "threads": threads,
            "rounds": rounds,
            "guesses": GUESSES,
            "same": same,
            "tasks": [asdict(task) for task in tasks],
        }


class _Answer:
    """One prompt that is answered repeatedly."""

    def __init__(self, runner: Runner, lease: int, prompt: str, params: SamplingParams) -> None:
        self._runner = runner
        self._lease = lease
        self._prompt = prompt
        self._params = params
        self._behind_first: list[Emission] = []

    @property
    def text(self) -> str:
        return self._behind_first[-1].final_text

    def decode(self) -> float:
        """Returns the seconds after the first token."""
        self._runner.add("bench", Conversation.of(self._prompt), self._params)
        while not self._runner.step(self._lease):
            pass
        self._behind_first = []
        return timed(self._to_the_end)

    def _to_the_end(self) -> None:
        while self._runner.live:
            self._behind_first += self._runner.step(self._lease)

    def task(self, name: str, seconds: float, plain_seconds: float) -> Task:
        def all_of(number: Callable[[Emission], int]) -> int:
            return sum(map(number, self._behind_first))

        tokens = all_of(lambda emission: emission.tokens)
        return Task(
            name,
            tokens,
            len(self._behind_first),
            all_of(lambda emission: emission.guessed),
            all_of(lambda emission: emission.right),
            round(tokens / seconds, 1),
            round(tokens / plain_seconds, 1),
            round(plain_seconds / seconds, 2),
        )
