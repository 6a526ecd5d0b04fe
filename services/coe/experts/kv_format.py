"""Formats of keys and values in the cache.

`f16` takes half the memory and bandwidth of `f32` and rounds each value once. `i8` takes about a quarter: eight bits
per value, and a float32 scale each for the keys and the values of a token in each head.
"""

from typing import Literal

from coe.experts.config import ModelConfig

KvFormat = Literal["f32", "f16", "i8"]
_ITEM_BYTES: dict[KvFormat, int] = {"f32": 4, "f16": 2, "i8": 1}
_SCALE_ELEMENTS: dict[KvFormat, int] = {"f32": 0, "f16": 0, "i8": 4}


def row_elements(config: ModelConfig, kv_format: KvFormat) -> int:
    """Elements that the keys (or the values) of one token take in one head, including the scale."""
    return config.head_dim + _SCALE_ELEMENTS[kv_format]


def bytes_per_token(config: ModelConfig, kv_format: KvFormat) -> int:
    """Bytes of the keys and values of one token over all layers."""
    return config.layers * 2 * config.kv_heads * row_elements(config, kv_format) * _ITEM_BYTES[kv_format]
