"""Sentence encoder: text to unit vectors, on ONNX Runtime. Shared by the router, the mapping and the evaluation."""

from coe.encoder.cache import EmbeddingCache
from coe.encoder.encoder import Encoder
from coe.encoder.source import EncoderSpec, open_encoder

__all__ = ["EmbeddingCache", "Encoder", "EncoderSpec", "open_encoder"]
