"""Encodes texts as unit vectors: tokenises, runs the ONNX model and pools."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

from coe.platform.errors import ArtifactError

# Most tokens per run, padding included: bounds memory and keeps the working set close to the cache size.
TOKENS_PER_RUN = 2048
# Characters to tokenise for each token kept: bounds the time spent on a long text.
CHARS_PER_TOKEN = 16
# Prefixes of tokens that start a word (SentencePiece, byte-level BPE), and of those that continue one (WordPiece).
WORD_MARKS = ("\u2581", "\u0120")
CONTINUED = "##"
# Largest deviation from 1 of the length of a unit vector, owing to rounding.
UNIT = 1e-3


class Encoder:
    """A sentence encoder. Thread-safe, because ONNX Runtime sessions and tokenizers are.

    `fingerprint` identifies the weights, tokenizer and token limits: vectors of encoders with equal fingerprints are
    comparable.
    """

    def __init__(
        self,
        name: str,
        fingerprint: str,
        model: Path,
        tokenizer: Path,
        *,
        max_tokens: int,
        tail_tokens: int = 0,
        batched: bool = True,
        threads: int = 1,
    ) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.max_tokens = max_tokens
        self.tail_tokens = tail_tokens
        # int8 activations share one scale per run, so texts in the same run would affect each other's vectors.
        self._batched = batched
        self._pool = None if batched or threads == 1 else ThreadPoolExecutor(threads, "encoder")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads if batched else 1
        options.inter_op_num_threads = 1
        # Idle worker threads must not spin on cores that experts need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises several unrelated types, which all mean the same here
            raise ArtifactError(f"The encoder model {model} can't be loaded: {error}", encoder=name) from error
        self._inputs = {
            node.name: np.int64 if "int64" in node.type else np.int32 for node in self._session.get_inputs()
        }
        if not {"input_ids", "attention_mask"} <= self._inputs.keys():
            raise ArtifactError("An encoder model needs the inputs input_ids and attention_mask", encoder=name)
        self._output = self._session.get_outputs()[0]
        width = self._output.shape[-1]
        # An export may give the width a symbolic name: then a run tells.
        self.dimensions = width if isinstance(width, int) else self._run([[0]]).shape[-1]
        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
        except Exception as error:  # nothing narrower is raised
            raise ArtifactError(f"{tokenizer} is not a tokenizer: {error}", encoder=name) from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings float32 [len(texts), dimensions], unit vectors in the order of the texts."""
        result = np.empty((len(texts), self.dimensions), np.float32)
        sequences = self._tokens(texts)
        lengths = [len(ids) for ids in sequences]
        batches = list(_batches(lengths)) if self._batched else [[row] for row in range(len(texts))]

        def run(rows: list[int]) -> None:
            result[rows] = self._run([sequences[row] for row in rows])

        if self._pool is None or len(batches) == 1:
            for rows in batches:
                run(rows)
        else:
            list(self._pool.map(run, batches))
        return result

    def vocabulary(self) -> list[str]:
        """The tokens that are words or word beginnings, without the tokenizer's prefixes."""
        tokens = list(self._tokenizer.get_vocab())
        for mark in WORD_MARKS:
            marked = [token.removeprefix(mark) for token in tokens if token.startswith(mark)]
            if marked:
                return marked
        return [token for token in tokens if not token.startswith(CONTINUED)]

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text; a text that is too long keeps its start and its last `tail_tokens` tokens."""
        reach = self.max_tokens * CHARS_PER_TOKEN
        starts = self._tokenizer.encode_batch_fast([_encodable(text[:reach]) for text in texts])
        sequences = [encoding.ids for encoding in starts]
        for row, ids in enumerate(sequences):
            # Even when the first `reach` characters are few tokens (base64, say), a longer text gets its tail appended.
            if len(ids) > self.max_tokens or len(texts[row]) > reach:
                separator, kept = ids[-1], min(len(ids), self.max_tokens - self.tail_tokens) - 1
                tail = self._tail(texts[row]) if self.tail_tokens else []
                sequences[row] = [*ids[:kept], *tail, separator]
        return sequences

    def _tail(self, text: str) -> list[int]:
        end = _encodable(text[-self.tail_tokens * CHARS_PER_TOKEN :])
        return self._tokenizer.encode(end, add_special_tokens=False).ids[-self.tail_tokens :]

    def _run(self, sequences: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        width = max(map(len, sequences))
        ids = np.zeros((len(sequences), width), np.int64)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(sequences):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        typed = {name: feeds[name].astype(dtype) for name, dtype in self._inputs.items()}
        output: NDArray[np.float32] = self._session.run([self._output.name], typed)[0]
        return _unit(output if output.ndim == 2 else _mean_pool(output, mask))


def _encodable(text: str) -> str:
    """Replaces lone surrogates, which JSON allows and UTF-8 does not, by question marks."""
    return text.encode("utf-8", "replace").decode()


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Groups indices by similar length, so that there is little padding."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[index] > TOKENS_PER_RUN:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _mean_pool(hidden: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    """Mean over the tokens of [batch, tokens, hidden], for models without pooling."""
    weight = mask[:, :, None].astype(np.float32)
    mean: NDArray[np.float32] = (hidden * weight).sum(1) / weight.sum(1)
    return mean


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normalises vectors to unit length. Those that already have it, up to rounding, are unchanged bit for bit."""
    length: NDArray[np.float32] = np.linalg.norm(vectors, axis=1, keepdims=True)
    length[np.abs(length - 1) < UNIT] = 1
    return vectors / length
