"""Text to unit vectors: tokenise, run the ONNX model, pool."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from coe.platform.errors import ArtifactError

# Padded tokens a run may hold: bounds memory and keeps the working set near the cache.
TOKENS_PER_RUN = 2048


class Encoder:
    """A sentence encoder. Thread safe: ONNX Runtime sessions and tokenizers are.

    `fingerprint` names weights, tokenizer and token limit: vectors of two encoders may be compared when it is equal.
    """

    def __init__(
        self, name: str, fingerprint: str, model: Path, tokenizer: Path, *, max_tokens: int, threads: int = 1
    ) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.max_tokens = max_tokens
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Idle worker threads must not spin on cores that experts need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises several unrelated types, all of which mean the same here
            raise ArtifactError(f"Encoder model {model.name} can't be loaded: {error}", encoder=name) from error
        self._inputs = {
            node.name: np.int64 if "int64" in node.type else np.int32 for node in self._session.get_inputs()
        }
        if not {"input_ids", "attention_mask"} <= self._inputs.keys():
            raise ArtifactError("An encoder model needs the inputs input_ids and attention_mask", encoder=name)
        self._output = self._session.get_outputs()[0]
        self.dimensions = int(self._output.shape[-1])
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length=max_tokens)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings float32 [len(texts), dimensions], each of length 1, in the order given."""
        result = np.empty((len(texts), self.dimensions), np.float32)
        encodings = self._tokenizer.encode_batch_fast(list(texts))
        for rows in _batches([len(encoding.ids) for encoding in encodings]):
            result[rows] = self._run([encodings[row] for row in rows])
        return result

    def count_tokens(self, text: str) -> int:
        """Tokens that `encode` looks at, the special ones included."""
        return len(self._tokenizer.encode(text).ids)

    def _run(self, encodings: Sequence[Encoding]) -> NDArray[np.float32]:
        width = max(len(encoding.ids) for encoding in encodings)
        ids = np.zeros((len(encodings), width), np.int64)
        mask = np.zeros_like(ids)
        for row, encoding in enumerate(encodings):
            ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = 1
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        typed = {name: feeds[name].astype(dtype) for name, dtype in self._inputs.items()}
        output: NDArray[np.float32] = self._session.run([self._output.name], typed)[0]
        return output if output.ndim == 2 else _mean_pool(output, mask)


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices grouped by similar length, so that little is spent on padding."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[index] > TOKENS_PER_RUN:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _mean_pool(hidden: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    """Mean over the tokens of [batch, tokens, hidden], then unit length: for models that end before pooling."""
    weight = mask[:, :, None].astype(np.float32)
    mean = (hidden * weight).sum(1) / weight.sum(1)
    unit: NDArray[np.float32] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    return unit
