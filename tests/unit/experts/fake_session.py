"""A session whose next token is a function of the tokens before: no model needed."""

from collections.abc import Callable, Sequence

import numpy as np
from tokenizers import Tokenizer, decoders, models

from coe.experts.config import ModelConfig
from coe.experts.kv_blocks import BlockPool
from coe.experts.kv_sharing import SharedKv
from coe.experts.manifest import TokenizerFacts
from coe.experts.runner import Runner
from coe.experts.sequence import Emission
from coe.experts.step_result import StepResult
from coe.experts.tokenizer import ExpertTokenizer
from coe.platform.errors import LeaseLost

VOCABULARY = 64
EOS = 63
BLOCK = 4
CONFIG = ModelConfig(
    architecture="llama", layers=1, hidden=8, heads=1, kv_heads=1, head_dim=16, feed_forward=8, vocabulary=VOCABULARY,
    context_length=2048, norm_epsilon=1e-5, rope_theta=1e4, rope_dim=16, attention_scale=1.0,
)  # fmt: skip


class FakeSession:
    """Keeps tokens where a real one keeps keys and values, and derives logits from what the block table shows."""

    def __init__(self, kv: SharedKv) -> None:
        self.config = CONFIG
        self.batch_invariant = True
        self.pool = BlockPool(kv.budget, block_bytes=BLOCK, block_tokens=BLOCK, blocks=kv.budget.limit // BLOCK)
        self.kv = np.full((self.pool.blocks, BLOCK), -1)
        self.steps: list[int] = []
        self.handles: list[int] = []
        self.stale = False
        self.during = lambda: None
        # Of the tokens before so many decide on the next one. With few of them a text repeats itself.
        self.memory = 4096
        self.damage: Callable[[np.ndarray], None] = lambda logits: None
        kv.join(self)

    def forget_kv(self) -> None:
        self.pool.forget()
        self.kv[:] = -1

    def run(self, inputs: dict[str, np.ndarray]) -> StepResult:
        if self.stale:
            raise LeaseLost("stale lease")
        self.during()
        self.steps.append(len(inputs["token_ids"]))
        self.handles.append(int(inputs["expert_slot"][0]))
        table = inputs["block_table"]
        for token, position, owner in zip(
            inputs["token_ids"], inputs["positions"], inputs["sequence_ids"], strict=True
        ):
            self.kv[table[owner, position // BLOCK], position % BLOCK] = token
        greedy = inputs["greedy_rows"].tolist()
        rows = [
            self._logits(table[inputs["sequence_ids"][row]], inputs["positions"][row])
            for row in [*inputs["logit_rows"], *greedy]
        ]
        logits = np.array(rows, np.float32).reshape(len(rows), VOCABULARY)
        self.damage(logits)
        whole = StepResult.of_logits(logits)
        return StepResult(whole.likeliest, whole.peaks) if greedy else whole

    def _logits(self, blocks: np.ndarray, position: int) -> np.ndarray:
        seen = self.kv[blocks].ravel()[: position + 1]
        assert (seen >= 0).all()
        return logits_after(seen[-self.memory :].tolist())


def logits_after(ids: list[int]) -> np.ndarray:
    return np.random.default_rng(ids).standard_normal(VOCABULARY).astype(np.float32)


def greedy(prompt: list[int], count: int) -> list[int]:
    ids = list(prompt)
    while len(ids) < len(prompt) + count and (len(ids) == len(prompt) or ids[-1] != EOS):
        ids.append(int(np.argmax(logits_after(ids))))
    return ids[len(prompt) :]


def tokenizer() -> ExpertTokenizer:
    vocabulary = {chr(33 + index): index for index in range(VOCABULARY)}
    built = Tokenizer(models.BPE(vocabulary, []))
    built.decoder = decoders.ByteLevel()
    facts = TokenizerFacts(chat_template="", bos_id=None, add_bos=False, eos_ids=(EOS,), sha256="")
    return ExpertTokenizer(built.to_str(), facts)


def spelled(tokens: list[int]) -> str:
    return "".join(chr(33 + token) for token in tokens if token != EOS)


def finish(runner: Runner, before: Sequence[Emission] = ()) -> dict[str, Emission]:
    """The last emission of every request; `before` are emissions of steps that a test took itself."""
    done: dict[str, Emission] = {}
    text: dict[str, str] = {}
    emissions = list(before)
    while emissions or runner.live:
        for emission in emissions or runner.step(1):
            assert emission.request_id not in done
            text[emission.request_id] = text.get(emission.request_id, "") + emission.text
            if emission.finish_reason:
                done[emission.request_id] = emission
        emissions = []
    assert {request_id: emission.final_text for request_id, emission in done.items()} == text
    return done
