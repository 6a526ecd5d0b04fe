"""Drives llama.cpp through the C API of `llama-cpp-python`, with all sequences of a step in one llama_decode."""

import time
from typing import Any

import llama_cpp  # type: ignore[import-not-found, unused-ignore]
import numpy as np
from serve import FIRST_TOKEN  # type: ignore[import-not-found, unused-ignore]

CONTEXT = 640  # tokens per sequence
STEP = 512  # maximum tokens of a llama_decode


class Subject:
    """Weights as in the file (repacked where llama.cpp has better kernels for that), keys and values in float16."""

    def __init__(self, path: str, threads: int, sequences: int) -> None:
        self.version = f"llama-cpp-python {llama_cpp.__version__}"
        self.settings = "KV f16, flash attention, one llama_decode for all sequences"
        llama_cpp.llama_log_set(_silent, None)
        llama_cpp.llama_backend_init()
        self._path = path.encode()
        self._model = self._open()
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx = CONTEXT * sequences
        settings.n_seq_max = sequences
        settings.n_batch = settings.n_ubatch = STEP
        settings.n_threads = settings.n_threads_batch = threads
        settings.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        settings.no_perf = True
        self._context = llama_cpp.llama_init_from_model(self._model, settings)
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        self._batch = llama_cpp.llama_batch_init(STEP, 0, 1)

    def prefill(self, prompt: int, batch: int) -> float:
        llama_cpp.llama_memory_clear(self._memory, False)
        start = time.perf_counter()
        for sequence in range(batch):
            self._prompt(sequence, prompt)
        return time.perf_counter() - start

    def decode(self, depth: int, batch: int, steps: int) -> float:
        llama_cpp.llama_memory_clear(self._memory, False)
        if depth:
            self._prompt(0, depth)
        for sequence in range(1, batch):
            llama_cpp.llama_memory_seq_cp(self._memory, 0, sequence, -1, -1)
        # The first step also performs the copies, so it is not timed.
        self._step([(FIRST_TOKEN, depth, sequence, True) for sequence in range(batch)])
        start = time.perf_counter()
        for step in range(1, steps + 1):
            self._step([(FIRST_TOKEN + step, depth + step, sequence, True) for sequence in range(batch)])
            self._greedy(batch)
        return time.perf_counter() - start

    def load(self) -> float:
        """Returns the seconds to load the model from the page cache, without a context."""
        start = time.perf_counter()
        model = self._open()
        taken = time.perf_counter() - start
        llama_cpp.llama_model_free(model)
        return taken

    def _open(self) -> Any:
        model = llama_cpp.llama_model_load_from_file(self._path, llama_cpp.llama_model_default_params())
        if not model:
            raise RuntimeError("the model could not be loaded")
        return model

    def _prompt(self, sequence: int, tokens: int) -> None:
        """Computes tokens [0, tokens) of a sequence, with logits for the last one only."""
        for begin in range(0, tokens, STEP):
            positions = range(begin, min(tokens, begin + STEP))
            self._step([(FIRST_TOKEN + at, at, sequence, at == tokens - 1) for at in positions])

    def _step(self, rows: list[tuple[int, int, int, bool]]) -> None:
        """Runs (token, position, sequence, whether its logits are wanted) in one call."""
        batch = self._batch
        batch.n_tokens = len(rows)
        for index, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[index] = token
            batch.pos[index] = position
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = sequence
            batch.logits[index] = wanted
        if status := llama_cpp.llama_decode(self._context, batch):
            raise RuntimeError(f"llama_decode failed: {status}")
        llama_cpp.llama_synchronize(self._context)

    def _greedy(self, rows: int) -> None:
        logits = llama_cpp.llama_get_logits(self._context)
        np.ctypeslib.as_array(logits, (rows, self._vocabulary)).argmax(axis=1)


@llama_cpp.llama_log_callback  # type: ignore[untyped-decorator, unused-ignore]
def _silent(level: int, text: bytes, user: object) -> None:
    """Discards llama.cpp's log."""
