"""llama.cpp through `xllamacpp`, where that is installed: an optional second opinion, never a dependency."""

import json
import math
import urllib.request
from pathlib import Path
from typing import Any

import pytest

TIMEOUT_S = 60.0


class LlamaCpp:
    """A server of one GGUF file in this process."""

    def __init__(self, path: Path, *, context: int = 1024) -> None:
        xllamacpp = pytest.importorskip("xllamacpp")
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(path)
        parameters.n_ctx = context
        parameters.n_parallel = 1
        parameters.cpuparams.n_threads = 1
        parameters.warmup = False
        parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self._server = xllamacpp.Server(parameters)
        self._address = self._server.listening_address

    def tokenize(self, text: str) -> list[int]:
        body = {"content": text, "add_special": False, "parse_special": True}
        ids: list[int] = self._post("/tokenize", body)["tokens"]
        return ids

    def next_log_probabilities(self, ids: list[int], vocabulary: int) -> dict[int, float]:
        """Natural logarithms of the probabilities of the token after `ids`.

        Empty when the likeliest token is no text by itself (a part of a character): the server tells nothing then.
        """
        answer = self._post(
            "/completion",
            {"prompt": ids, "n_predict": 1, "temperature": 0, "n_probs": vocabulary, "cache_prompt": False},
        )
        top = [entry for position in answer.get("completion_probabilities", []) for entry in position["top_logprobs"]]
        return {entry["id"]: entry["logprob"] for entry in top if math.isfinite(entry["logprob"])}

    def greedy(self, ids: list[int], count: int) -> list[int]:
        body = {"prompt": ids, "n_predict": count, "temperature": 0, "return_tokens": True, "cache_prompt": False}
        tokens: list[int] = self._post("/completion", body)["tokens"]
        return tokens

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        data = json.dumps(body).encode()
        request = urllib.request.Request(self._address + path, data, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            answer: dict[str, Any] = json.loads(response.read())
        return answer
