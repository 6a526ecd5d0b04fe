"""Settings of the worker, from COE_WORKER_* environment variables."""

import os
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import SettingsConfigDict

from coe.expert_worker.batch import CHUNK_S
from coe.expert_worker.intake import MAX_ATTEMPTS
from coe.experts.activation_bits import ActivationBits
from coe.experts.kv_format import KvFormat
from coe.experts.step_plan import GUESSES
from coe.platform.cgroup import limits
from coe.platform.processors import processors
from coe.platform.settings import Settings


def _number(text: object) -> object:
    return int(text) if isinstance(text, str) and text.isdecimal() else text


def _fitting(nbytes: int) -> int:
    """Raises ValueError where the machine, or the container, has less memory: it would end the worker in use."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    most = min([machine, *(int(limit) for limit in limits("memory.max") if limit.isdecimal())])
    if nbytes > most:
        raise ValueError(f"{nbytes} bytes exceed the {most} bytes of available memory")
    return nbytes


class WorkerSettings(Settings):
    """Sizes are bytes, times are seconds."""

    model_config = SettingsConfigDict(env_prefix="COE_WORKER_")

    # Must be unique among the workers of a cluster.
    id: str = "expert-worker-0"
    # host:port of the node's memory-tier manager.
    tier_manager: str = "127.0.0.1:7040"
    # Consumer group on the assignments topic.
    group: str = "coe-expert-worker"
    # Maximum number of unfinished prompts taken from the topic: what the scheduling policy can choose from.
    max_in_flight: Annotated[int, Field(ge=1)] = 1024
    # How many times a prompt is handed to a worker before it fails: it may be what kills the workers.
    max_attempts: Annotated[int, Field(ge=1, le=100)] = MAX_ATTEMPTS
    # Maximum number of sequences generated together, as far as `kv_bytes` can hold their tokens.
    max_batch: Annotated[int, Field(ge=1)] = 64
    # Size of the KV cache for all sequences.
    kv_bytes: Annotated[int, Field(ge=1 << 20), AfterValidator(_fitting)] = 512 << 20
    # Format of keys and values. f16 holds twice as many tokens as f32 in the same space, i8 almost four times as many.
    kv_format: KvFormat = "f16"
    # Bits of the activations multiplied in layers. With 8, prefill and multi-sequence steps take two thirds to four
    # fifths of the time (no effect with AMX, which keeps 16); logits then deviate as in other runtimes, and half of
    # all greedy answers differ.
    activation_bits: Annotated[ActivationBits, BeforeValidator(_number)] = 16
    # Which prompts may reuse computed prefixes: any, or only those of the same tenant. The latter prevents callers
    # from inferring, from the time or usage of an answer, how others' prompts begin.
    shared_past: Literal["all", "tenant"] = "all"
    # Maximum number of tokens that a single-sequence step guesses ahead (fewer with several sequences): those that
    # followed the latest tokens when they last occurred. Answers are unaffected; wrong guesses cost a little time. 0:
    # off.
    guesses: Annotated[int, Field(ge=0, le=16)] = GUESSES
    # Minimum number of seconds between chunks of a stream; tokens in between go with the next chunk. Every chunk is a
    # message that the broker and the gateway must handle. 0: one per step.
    chunk_s: Annotated[float, Field(ge=0, le=1)] = CHUNK_S
    # Threads per step.
    threads: Annotated[int, Field(ge=1)] = processors()
    # Scheduling policy (see coe.scheduling).
    policy: Literal["fifo", "samba-coe", "lru", "coserve", "lookahead"] = "lookahead"
    # Ageing bound of the lookahead policy, in seconds.
    max_wait_s: Annotated[float, Field(gt=0)] = 20.0
    # Seconds that a batch waits for its lease, across manager restarts, before its prompts fail.
    acquire_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    # Seconds that a step may take before the worker exits, so that other workers get its prompts. A step may include
    # building a graph and waiting for weights (up to a minute without progress). 0: no limit.
    step_timeout_s: Annotated[float, Field(ge=0, le=86_400)] = 300.0
    # Seconds that running prompts get to finish after the signal to stop.
    grace_s: Annotated[float, Field(ge=0)] = 8.0
    # Serves the expert `echo`, which returns the prompt. For load tests of the pipeline only.
    allow_echo: bool = False
