"""Packing against the `gguf` package's own dequantisation: nothing may be lost."""

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coe.native import packing

KINDS = {fmt: gguf.GGMLQuantizationType[fmt.upper()] for fmt in packing.FORMATS}

# Where a block has its scale and its minimum.
HALVES = {
    "q4_0": (0,),
    "q5_0": (0,),
    "q8_0": (0,),
    "q4_1": (0, 2),
    "q5_1": (0, 2),
    "q4_k": (0, 2),
    "q5_k": (0, 2),
    "q6_k": (208,),
}


def random_blocks(fmt: str, rows: int, cols: int, seed: int) -> np.ndarray:
    """Any bits are a valid block but for NaN scales, which equal nothing."""
    width, nbytes = gguf.GGML_QUANT_SIZES[KINDS[fmt]]
    raw = np.random.default_rng(seed).integers(0, 256, (rows, cols // width * nbytes), np.uint8)
    if fmt in ("f32", "f16", "bf16"):
        values = np.random.default_rng(seed).standard_normal((rows, cols), np.float32)
        return gguf.quants.quantize(values, KINDS[fmt]).view(np.uint8)
    blocks = raw.reshape(-1, nbytes)
    for at in HALVES[fmt]:
        blocks[:, at + 1] &= 0xBB  # exponent bits that make infinity or NaN
    return raw


@pytest.mark.parametrize("fmt", packing.FORMATS)
@given(rows=st.integers(1, 20), blocks=st.integers(1, 3), seed=st.integers(0, 2**16))
@settings(max_examples=15, deadline=None)
def test_unpacked_values_are_ggufs(fmt: str, rows: int, blocks: int, seed: int) -> None:
    cols = blocks * max(32, gguf.GGML_QUANT_SIZES[KINDS[fmt]][0])
    raw = random_blocks(fmt, rows, cols, seed)
    packed = packing.pack(fmt, raw, rows, cols)
    assert packed.size == packing.packed_nbytes(fmt, rows, cols)
    expected = gguf.quants.dequantize(raw, KINDS[fmt]).reshape(rows, cols)
    np.testing.assert_array_equal(packing.unpack(fmt, packed, rows, cols), expected)


@pytest.mark.parametrize("fmt", packing.FORMATS)
def test_slices_of_whole_panels_join_to_the_whole(fmt: str) -> None:
    raw = random_blocks(fmt, 24, 256, 7)
    whole = packing.pack(fmt, raw, 24, 256)
    parts = [packing.pack(fmt, raw[:16], 16, 256), packing.pack(fmt, raw[16:], 8, 256)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def blocks_for_planes(rows: int, cols: int, seed: int) -> np.ndarray:
    """As random_blocks, without the quant of -128 that has no negative."""
    blocks = random_blocks("q8_0", rows, cols, seed).reshape(rows, -1, 34)
    blocks[..., 2:][blocks[..., 2:] == 0x80] = 0
    return blocks


@given(rows=st.integers(1, 20), blocks=st.integers(1, 3), seed=st.integers(0, 2**16))
@settings(max_examples=30, deadline=None)
def test_planes_lose_nothing(rows: int, blocks: int, seed: int) -> None:
    cols = 32 * blocks
    raw = blocks_for_planes(rows, cols, seed)
    packed = packing.pack("q8_0_planes", raw, rows, cols)
    assert packed.size == packing.packed_nbytes("q8_0_planes", rows, cols)
    expected = gguf.quants.dequantize(raw.reshape(rows, -1), KINDS["q8_0"]).reshape(rows, cols)
    np.testing.assert_array_equal(packing.unpack("q8_0_planes", packed, rows, cols), expected)


def test_the_upper_plane_alone_is_within_half_a_step() -> None:
    raw = blocks_for_planes(24, 64, 5)
    whole = packing.unpack("q8_0_planes", packing.pack("q8_0_planes", raw, 24, 64), 24, 64)
    upper = packing.unpack("q5_0", packing.pack("q8_0_high", raw, 24, 64), 24, 64)
    scales = np.abs(raw[..., :2].copy().view(np.float16).astype(np.float32)).repeat(32, axis=1).reshape(24, 64)
    assert (np.abs(whole - (8 * upper + 3.5 * scales)) <= 3.5 * scales * (1 + 1e-6)).all()


@pytest.mark.parametrize("plane", packing.PLANES["q8_0_planes"])
def test_slices_of_a_plane_join_to_the_whole(plane: str) -> None:
    raw = blocks_for_planes(24, 256, 7)
    parts = [packing.pack(plane, raw[:16], 16, 256), packing.pack(plane, raw[16:], 8, 256)]
    np.testing.assert_array_equal(np.concatenate(parts), packing.pack(plane, raw, 24, 256))


def test_what_planes_cannot_hold_is_refused() -> None:
    raw = blocks_for_planes(8, 32, 3)
    raw[2, 0, :3] = (0, 0xB0, 0x80)
    with pytest.raises(ValueError, match="a negative scale and a quant of -128"):
        packing.pack("q8_0_planes", raw, 8, 32)


@pytest.mark.parametrize("bits", [0x7C00, 0xFC00, 0x7E00], ids=["inf", "-inf", "nan"])
@pytest.mark.parametrize("fmt", [*packing.FORMATS, *packing.PLANES])
def test_what_is_no_finite_number_is_refused(fmt: str, bits: int) -> None:
    """In the last row, and wherever a block has a scale or a minimum."""
    source = "q8_0" if fmt in packing.PLANES else fmt
    raw = blocks_for_planes(24, 256, 3).reshape(24, -1) if fmt in packing.PLANES else random_blocks(fmt, 24, 256, 3)
    raw = raw.view(np.uint8).reshape(24, -1)
    value = np.array([bits], np.uint16).view(np.float16).astype(np.float32)
    as_floats = {
        "f32": value.view(np.uint8),
        "bf16": value.view(np.uint8)[2:],
        "f16": np.array([bits], "<u2").view("u1"),
    }
    size = gguf.GGML_QUANT_SIZES[KINDS[source]][1]
    for at in HALVES.get(source, (0,)):
        damaged = raw.copy()
        written = as_floats.get(fmt, as_floats["f16"])
        start = damaged.shape[1] - size + at
        damaged[23, start : start + len(written)] = written
        with pytest.raises(ValueError, match="infinite or NaN"):
            packing.pack(fmt, damaged, 24, 256)


def test_bad_arguments_are_refused() -> None:
    for fmt in ("q9", "q8_0_middle"):
        with pytest.raises(ValueError, match="unknown format"):
            packing.packed_nbytes(fmt, 8, 32)
    with pytest.raises(ValueError, match="multiple of 256"):
        packing.packed_nbytes("q4_k", 8, 32)
    with pytest.raises(ValueError, match="bytes are not"):
        packing.pack("q4_0", np.zeros(17, np.uint8), 1, 32)
