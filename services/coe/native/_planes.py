"""8-bit quants in two planes: the upper five bits of a whole matrix, then the lower three.

The upper plane is a matrix of its own, in the layout of Q5_0. With u its quants, a quant of Q8_0 is `8 u + low - 128`.
"""

import numpy as np

from coe.native._gguf_blocks import Bytes, Fields, Halves
from coe.native._panels import (
    BLOCK,
    LAYOUTS,
    PANEL,
    bit_pairs,
    from_bit_pairs,
    from_single_bits,
    pack_fields,
    panels,
    quants_of,
    single_bits,
    steps_of,
    unpack_fields,
)

UPPER = LAYOUTS["q5_0"]
LOW_BITS = 3
_SHIFT, _LOW_MASK, _ONE = np.uint8(LOW_BITS), np.uint8((1 << LOW_BITS) - 1), np.uint8(1)
_SIGN = np.uint16(0x8000)  # of a float16
_OFFSET = np.uint8(128)  # XOR with it adds 128 to a signed byte


def low_nbytes(rows: int, cols: int) -> int:
    return panels(rows) * PANEL * cols * LOW_BITS // 8


def pack_high(f: Fields) -> Bytes:
    """Raises ValueError like `_unsigned`."""
    offset, d = _unsigned(f)
    return pack_fields(UPPER, Fields(offset >> _SHIFT, d))


def pack_low(f: Fields) -> Bytes:
    offset, _ = _unsigned(f)
    steps = steps_of(offset & _LOW_MASK, BLOCK)
    return np.concatenate([bit_pairs(steps >> _ONE), single_bits(steps & _ONE)], axis=-2).reshape(-1)


def unpack(packed: Bytes, rows: int, cols: int) -> Fields:
    low_start = packed.size - low_nbytes(rows, cols)
    high = unpack_fields(UPPER, packed[:low_start], rows, cols)
    lanes = packed[low_start:].reshape(panels(rows), cols // BLOCK, 1, LOW_BITS, 32)
    low = from_bit_pairs(lanes[..., :2, :]) << _ONE | from_single_bits(lanes[..., 2:, :])
    return Fields((high.q << _SHIFT | quants_of(low, rows, cols)) ^ _OFFSET, high.d)


def _unsigned(f: Fields) -> tuple[Bytes, Halves]:
    """Quants + 128 and non-negative scales, so that the upper plane bounds what the lower one adds.

    Raises ValueError where that is impossible without loss. No quantiser produces such a block.
    """
    below = (f.d & _SIGN) != 0
    if not below.any():
        return f.q ^ _OFFSET, f.d
    flipped = np.repeat(below, BLOCK, axis=1)
    if (flipped & (f.q == _OFFSET)).any():
        raise ValueError("a q8_0 block has a negative scale and a quant of -128")
    return np.where(flipped, -f.q, f.q) ^ _OFFSET, f.d & ~_SIGN
