"""Converts a GGUF model to the format of each peer. Converted models are cached by fingerprint."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from coe.bench.hf_folder import write_hf_folder
from coe.bench.peer import PeerModel
from coe.bench.peer_setup import Say, builder, peers_folder, run
from coe.experts.gguf_source import GgufSource
from coe.platform.errors import Unavailable

SCRIPTS = Path(__file__).parent / "peers"
TIMEOUT_S = 1800.0


@dataclass(frozen=True)
class PeerModels:
    """`missing`: column of the table -> why that peer has no version of this model."""

    models: list[PeerModel] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)


def prepare(source: GgufSource, interpreter: Path, say: Say) -> PeerModels:
    """Converts the model with `interpreter`, which has the runtimes.

    Raises Unavailable if requantising fails. If the onnxruntime-genai model can't be built, it is `missing`.
    """
    folder = peers_folder() / "models" / source.card.fingerprint[:16]
    folder.mkdir(parents=True, exist_ok=True)
    made = PeerModels([PeerModel("llama_cpp", "llama_cpp", source.path)])
    made.models.append(PeerModel("llama_cpp_q4_0", "llama_cpp", _requantised(source, folder, interpreter, say)))
    try:
        made.models.append(PeerModel("ort_genai", "ort_genai", _built(source, folder, say)))
    except Unavailable as error:
        made.missing["ort_genai"] = error.message
    return made


def _requantised(source: GgufSource, folder: Path, interpreter: Path, say: Say) -> Path:
    """Returns the model with its matrices in Q4_0, for which llama.cpp has its fastest kernels."""
    target = folder / "q4_0.gguf"
    if not target.exists():
        say("requantising to Q4_0")
        partial = folder / "q4_0.partial"
        embedding = source.tensors["token_embd.weight"].format.upper()
        command = [str(interpreter), str(SCRIPTS / "llama_cpp_requantise.py")]
        command += [str(source.path), str(partial), embedding]
        run(command, folder / "q4_0.log", "requantising to Q4_0", TIMEOUT_S)
        partial.rename(target)
    return target


def _built(source: GgufSource, folder: Path, say: Say) -> Path:
    """Returns the int4 model of GenAI's builder, made offline from the values of our file with quality options."""
    target = folder / "ort_genai"
    if not target.exists():
        plain, partial = folder / "hf", folder / "ort_genai.partial"
        shutil.rmtree(partial, ignore_errors=True)
        write_hf_folder(source, plain)
        try:
            with builder(say) as interpreter:
                say("building the int4 model of onnxruntime-genai")
                command = [str(interpreter), str(SCRIPTS / "ort_genai_build.py"), str(plain), str(partial)]
                log = folder / "ort_genai.log"
                run(command, log, "building the model of onnxruntime-genai", TIMEOUT_S, HF_HUB_OFFLINE="1")
        finally:
            shutil.rmtree(plain)
        partial.rename(target)
    return target
