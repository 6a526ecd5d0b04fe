"""`coe bench decode`: tokens per second of prefill and decode, compared with the peers in one run."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import numpy as np

from coe.bench.bandwidth import read_seconds
from coe.bench.cases import BATCHES, CASES, DECODES, IN_BYTES, OURS, Case, Figure, figure
from coe.bench.clock import Subject, median_rounds
from coe.bench.peer import Peer
from coe.bench.peer_models import PeerModels
from coe.bench.subject import KV_FORMAT, GraphSubject, Shape
from coe.experts import activation_bits
from coe.experts.bundle import Bundle
from coe.experts.manifest import Manifest
from coe.experts.single import Hosted
from coe.native import packing

BANDWIDTH = "read"
# What each column computes with, for the reader of the table.
SETTINGS = {
    OURS: f"the file's weights exactly, KV {KV_FORMAT}",
    IN_BYTES: f"the file's weights exactly, activations of layers in 8 bits, KV {KV_FORMAT}",
    "llama_cpp": "the file's weights exactly",
    "llama_cpp_q4_0": "weights REQUANTISED to Q4_0",
    "ort_genai": "weights REQUANTISED to int4",
}


def run(
    bundle: Bundle, threads: int, rounds: int, steps: int, peers: tuple[Path, PeerModels] | None
) -> Iterator[Figure | dict[str, object]]:
    """Yields a figure per case, then the summary. `peers`: their interpreter, and the model in their formats."""
    with Hosted.load(bundle, threads=threads, kv_bytes=1 << 20) as hosted, ExitStack() as stack:
        hosted.wait_loaded()
        ours = {OURS: GraphSubject(bundle)}
        if activation_bits.used(8) == 8:
            ours[IN_BYTES] = GraphSubject(bundle, 8)
        running = []
        missing: dict[str, str] = {}
        if peers:
            interpreter, models = peers
            missing |= models.missing
            running = [stack.enter_context(Peer(model, interpreter, threads, max(BATCHES))) for model in models.models]
        memory = np.ones(bytes_a_token(bundle.manifest), np.uint8)  # as many bytes as a step reads
        figures = []
        share = bandwidth = 0.0
        for case in CASES:
            subjects = {name: _ours(subject, case, steps, hosted.lease) for name, subject in ours.items()}
            subjects |= {peer.column: _theirs(peer, case, steps) for peer in running}
            if case == DECODES[0]:
                subjects[BANDWIDTH] = lambda: read_seconds(memory, threads, steps)
            medians = median_rounds(subjects, rounds)
            missing |= {f"{name}, {case}": reason for name, reason in medians.refused.items()}
            seconds = medians.seconds
            if case == DECODES[0]:
                bandwidth = memory.nbytes / seconds[BANDWIDTH]
                share = bytes_a_token(bundle.manifest) * steps / seconds[OURS] / bandwidth
            figures.append(figure(bundle.id, threads, case, steps, seconds))
            yield figures[-1]
        yield {
            "bench": "decode",
            "cases": [asdict(figure) for figure in figures],
            "bandwidth_share": round(share, 3),
            "read_gb_s": round(bandwidth / 1e9, 1),
            "versions": {peer.column: peer.version for peer in running},
            "settings": {name: SETTINGS[name] for name in ours}
            | {peer.column: f"{SETTINGS[peer.column]}, {peer.settings}" for peer in running},
            "missing": missing,
        }


def bytes_a_token(manifest: Manifest) -> int:
    """Returns the bytes of weights that a greedy decode step reads.

    An embedding that is not also the output matrix is not counted, as only a row of it is read. Of an output matrix in
    planes, only the upper plane is counted, although some panels of the lower one are read too.
    """
    unread = 0 if manifest.config.tied else manifest.tensors["embedding"].nbytes
    head = manifest.tensors["embedding" if manifest.config.tied else "lm_head"]
    if head.format in packing.PLANES:
        unread += packing.packed_nbytes(packing.PLANES[head.format][1], head.rows, head.cols)
    return manifest.weights_bytes - unread


def _ours(subject: GraphSubject, case: Case, steps: int, lease: int) -> Subject:
    if case.phase == "prefill":
        return lambda: subject.prefill(Shape(case.batch, case.prompt, 0), lease)
    return lambda: subject.decode(case.batch, case.depth, steps, lease)


def _theirs(peer: Peer, case: Case, steps: int) -> Callable[[], float]:
    return lambda: peer.seconds(case, steps)
