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
        raise ValueError(f"{nbytes} bytes are more than the {most} bytes of memory that are there")
    return nbytes


class WorkerSettings(Settings):
    """Sizes are bytes, times are seconds."""

    model_config = SettingsConfigDict(env_prefix="COE_WORKER_")

    # Unique among the workers of a cluster.
    id: str = "expert-worker-0"
    # host:port of the node's memory-tier manager.
    tier_manager: str = "127.0.0.1:7040"
    # Consumer group on the assignments topic.
    group: str = "coe-expert-worker"
    # Prompts taken off the topic and not ended: what the scheduling policy can choose from.
    max_in_flight: Annotated[int, Field(ge=1)] = 1024
    # How often a prompt is handed out before it ends with an error: it may be what ends the workers that have it.
    max_attempts: Annotated[int, Field(ge=1, le=100)] = MAX_ATTEMPTS
    # Sequences that generate together, as far as `kv_bytes` holds their tokens.
    max_batch: Annotated[int, Field(ge=1)] = 64
    # For keys and values of all sequences.
    kv_bytes: Annotated[int, Field(ge=1 << 20), AfterValidator(_fitting)] = 512 << 20
    # How keys and values are kept: f16 holds twice the tokens of f32 in the same bytes, i8 nearly four times as many.
    kv_format: KvFormat = "f16"
    # Bits of the activations that layers multiply. With 8, prompts and steps of several sequences take two thirds to
    # four fifths of the time; with AMX 16 are used all the same. Logits are then as far off as other runtimes', and
    # half of all greedy answers are others.
    activation_bits: Annotated[ActivationBits, BeforeValidator(_number)] = 16
    # Who may begin with what was computed for another prompt: everybody, or prompts of the same tenant alone, so that
    # nobody can tell from the time or the usage of an answer how others' prompts begin.
    shared_past: Literal["all", "tenant"] = "all"
    # Tokens that a step of one sequence guesses, and fewer one of several: those that followed when the last ones stood
    # together before. Wrong guesses cost a little time, and answers are the same; 0: none.
    guesses: Annotated[int, Field(ge=0, le=16)] = GUESSES
    # So many seconds lie between the chunks of a stream at least: tokens that come sooner go along with the next one.
    # Each chunk is a message, which the broker and the gateway handle; 0: one a step.
    chunk_s: Annotated[float, Field(ge=0, le=1)] = CHUNK_S
    # Of a step.
    threads: Annotated[int, Field(ge=1)] = processors()
    # A policy of coe.scheduling.
    policy: Literal["fifo", "samba-coe", "lru", "coserve", "lookahead"] = "lookahead"
    # Ageing bound of the lookahead policy, seconds.
    max_wait_s: Annotated[float, Field(gt=0)] = 20.0
    # Seconds that a batch waits for its lease, over restarts of the manager, before its prompts end with an error.
    acquire_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    # Seconds that a step may take before the worker ends itself, so that others get its prompts; 0: for ever. A step
    # may build a graph, and waits for weights: a minute where none of their bytes come.
    step_timeout_s: Annotated[float, Field(ge=0, le=86_400)] = 300.0
    # Seconds that running prompts may go on after the signal to stop.
    grace_s: Annotated[float, Field(ge=0)] = 8.0
    # Serves the expert `echo`, which gives the prompt back. For load tests of the pipeline only.
    allow_echo: bool = False
