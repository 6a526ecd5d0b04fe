"""Sentence encoder: turns texts into unit vectors with ONNX Runtime. Used by the router and the evaluation."""

from coe.encoder.cache import EmbeddingCache
from coe.encoder.encoder import Encoder
from coe.encoder.source import EncoderSpec, open_encoder

__all__ = ["EmbeddingCache", "Encoder", "EncoderSpec", "open_encoder"]
