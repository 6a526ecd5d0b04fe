"""Splits GGUF's quantised blocks losslessly into fields: quants, scales and minima.

Block layouts: the GGUF format's `block_q*` structures. A value is `d * sc * q - dmin * mn` in the k-quants,
`d * q + m` in Q4_1 and Q5_1, and `d * (q - zero)` otherwise.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Halves = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Fields:
    """Rows x blocks of one matrix. `q` is uint8 [rows, cols]; `d` and `m` are the bits of float16 [rows, blocks];
    `sc` and `mn` have one byte per sub-block [rows, sub-blocks]."""

    q: Bytes
    d: Halves
    m: Halves | None = None
    sc: Bytes | None = None
    mn: Bytes | None = None


def _half(blocks: Bytes, at: int) -> Halves:
    return np.ascontiguousarray(blocks[..., at : at + 2]).view(np.uint16)[..., 0]


def _nibbles(qs: Bytes) -> Bytes:
    """[..., 16] bytes -> [..., 32]: low nibbles form the first half."""
    return np.concatenate([qs & 15, qs >> 4], axis=-1)


def _fifth_bits(qh: Bytes) -> Bytes:
    return np.unpackbits(qh, axis=-1, bitorder="little") << np.uint8(4)


def _flat(q: Bytes) -> Bytes:
    return q.reshape(q.shape[0], -1)


def _q4_0(b: Bytes) -> Fields:
    return Fields(_flat(_nibbles(b[..., 2:18])), _half(b, 0))


def _q4_1(b: Bytes) -> Fields:
    return Fields(_flat(_nibbles(b[..., 4:20])), _half(b, 0), _half(b, 2))


def _q5_0(b: Bytes) -> Fields:
    return Fields(_flat(_nibbles(b[..., 6:22]) | _fifth_bits(b[..., 2:6])), _half(b, 0))


def _q5_1(b: Bytes) -> Fields:
    return Fields(_flat(_nibbles(b[..., 8:24]) | _fifth_bits(b[..., 4:8])), _half(b, 0), _half(b, 2))


def _q8_0(b: Bytes) -> Fields:
    return Fields(_flat(b[..., 2:34]), _half(b, 0))


def _k_scales(packed: Bytes) -> tuple[Bytes, Bytes]:
    """12 bytes -> 8 scales and 8 minima of 6 bits."""
    low, mid, high = packed[..., 0:4], packed[..., 4:8], packed[..., 8:12]
    scales = np.concatenate([low & 63, (high & 15) | (low >> 6 << 4)], axis=-1)
    minima = np.concatenate([mid & 63, (high >> 4) | (mid >> 6 << 4)], axis=-1)
    return _flat(scales), _flat(minima)


def _k_nibbles(qs: Bytes) -> Bytes:
    """128 bytes -> 256 quants: 32 bytes hold two sub-blocks, the first in the low nibbles."""
    groups = qs.reshape(*qs.shape[:-1], 4, 32)
    return np.stack([groups & 15, groups >> 4], axis=-2).reshape(*qs.shape[:-1], 256)


def _q4_k(b: Bytes) -> Fields:
    return Fields(_flat(_k_nibbles(b[..., 16:144])), _half(b, 0), _half(b, 2), *_k_scales(b[..., 4:16]))


def _q5_k(b: Bytes) -> Fields:
    shifts = np.arange(8, dtype=np.uint8)[:, None]
    fifth = (b[..., None, 16:48] >> shifts & np.uint8(1)) << np.uint8(4)
    q = _k_nibbles(b[..., 48:176]) | fifth.reshape(*b.shape[:-1], 256)
    return Fields(_flat(q), _half(b, 0), _half(b, 2), *_k_scales(b[..., 4:16]))


def _q6_k(b: Bytes) -> Fields:
    low = b[..., :128].reshape(*b.shape[:-1], 2, 1, 64) >> np.array([0, 4], np.uint8)[:, None] & np.uint8(15)
    shifts = np.array([0, 2, 4, 6], np.uint8)[:, None]
    high = (b[..., 128:192].reshape(*b.shape[:-1], 2, 1, 32) >> shifts & np.uint8(3)) << np.uint8(4)
    q = low.reshape(*b.shape[:-1], 256) | high.reshape(*b.shape[:-1], 256)
    return Fields(_flat(q), _half(b, 208), sc=_flat(b[..., 192:208]))


# Format -> (bytes of a GGUF block, its columns, reader).
BLOCKS: dict[str, tuple[int, int, Callable[[Bytes], Fields]]] = {
    "q4_0": (18, 32, _q4_0),
    "q4_1": (20, 32, _q4_1),
    "q5_0": (22, 32, _q5_0),
    "q5_1": (24, 32, _q5_1),
    "q8_0": (34, 32, _q8_0),
    "q4_k": (144, 256, _q4_k),
    "q5_k": (176, 256, _q5_k),
    "q6_k": (210, 256, _q6_k),
}


def fields(fmt: str, raw: Bytes, rows: int, cols: int) -> Fields:
    """`raw` holds `rows` rows of GGUF blocks in any shape. Raises ValueError when its size is wrong."""
    nbytes, width, read = BLOCKS[fmt]
    if cols % width or raw.size != rows * (cols // width) * nbytes:
        raise ValueError(f"{raw.size} bytes are not a {rows} x {cols} matrix in {fmt}")
    return read(raw.reshape(rows, cols // width, nbytes))
