"""Drives ONNX Runtime GenAI on a folder made by its model builder."""

import json
import time
from typing import Any

import numpy as np
import onnxruntime_genai as genai  # type: ignore[import-not-found, unused-ignore]
from serve import FIRST_TOKEN  # type: ignore[import-not-found, unused-ignore]


class Subject:
    """Greedy search over a batch of sequences of equal length."""

    def __init__(self, folder: str, threads: int, sequences: int) -> None:
        self.version = f"onnxruntime-genai {genai.__version__}"
        self.settings = "blocks of 32 by k_quant, asymmetric, KV f32 (its CPU models have no other)"
        self._folder = folder
        self._overlay = json.dumps(
            {"model": {"decoder": {"session_options": {"intra_op_num_threads": threads, "inter_op_num_threads": 1}}}}
        )
        self._model = self._open()

    def prefill(self, prompt: int, batch: int) -> float:
        generator = self._generator(batch, prompt + 1)
        tokens = _tokens(batch, prompt)
        start = time.perf_counter()
        generator.append_tokens(tokens)
        generator.get_logits()
        return time.perf_counter() - start

    def decode(self, depth: int, batch: int, steps: int) -> float:
        generator = self._generator(batch, depth + steps + 2)
        generator.append_tokens(_tokens(batch, max(1, depth)))
        generator.generate_next_token()  # only samples, as the prompt's logits are already computed
        start = time.perf_counter()
        for _ in range(steps):
            generator.generate_next_token()
        return time.perf_counter() - start

    def load(self) -> float:
        """Returns the seconds to open the model with its weights."""
        start = time.perf_counter()
        self._open()
        return time.perf_counter() - start

    def _open(self) -> Any:
        config = genai.Config(self._folder)
        config.overlay(self._overlay)
        return genai.Model(config)

    def _generator(self, batch: int, length: int) -> Any:
        settings = genai.GeneratorParams(self._model)
        # min_length keeps it from stopping at an end token.
        settings.set_search_options(batch_size=batch, max_length=length, min_length=length, do_sample=False)
        return genai.Generator(self._model, settings)


def _tokens(batch: int, length: int) -> Any:
    return np.tile(FIRST_TOKEN + np.arange(length, dtype=np.int32), (batch, 1))
