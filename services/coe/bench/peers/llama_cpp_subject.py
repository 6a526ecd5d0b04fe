"""llama.cpp, through the wheel `xllamacpp`. Arguments: GGUF file, threads, parallel sequences.

Request {"prompt": tokens, "decode": tokens, "batch": n} -> {"prefill_s", "decode_s"}: seconds of the whole batch.
The first line it writes has its version and "load_s", the seconds that loading the model took.
"""

import json
import sys
import threading
import time
from typing import Any


def serve(path: str, threads: int, parallel: int) -> None:
    import xllamacpp  # type: ignore[import-not-found, unused-ignore]

    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_parallel = parallel
    params.n_ctx = 1024 * parallel
    params.n_batch = params.n_ubatch = 512
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.verbosity = 0
    params.warmup = False
    start = time.perf_counter()
    server = xllamacpp.Server(params)
    print(json.dumps({"version": xllamacpp.__version__, "load_s": time.perf_counter() - start}), flush=True)
    for line in sys.stdin:
        print(json.dumps(measure(server, **json.loads(line))), flush=True)


def measure(server: Any, prompt: int, decode: int, batch: int) -> dict[str, float]:
    timings: list[dict[str, float]] = []

    def one(index: int) -> None:
        request = {
            "prompt": [100 + index + token for token in range(prompt)],
            "n_predict": decode,
            "ignore_eos": True,
            "cache_prompt": False,
            "temperature": 0.0,
        }
        answer = server.handle_completions(request)
        timings.append((json.loads(answer) if isinstance(answer, str) else answer)["timings"])

    callers = [threading.Thread(target=one, args=(index,)) for index in range(batch)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return {
        "prefill_s": max(timing["prompt_ms"] for timing in timings) / 1e3,
        "decode_s": max(timing["predicted_ms"] for timing in timings) / 1e3,
    }


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
