"""Quantises an encoder's matrix products to int8, once per machine."""

import logging
import os
from pathlib import Path

from onnx import TensorProto

from coe.encoder.folders import cache_dir


def quantized(model: Path, key: str) -> Path:
    """The dynamically quantised model: int8 weights per output channel, activations quantised at run time.

    Weights use 7 of the 8 bits: AVX2 adds pairs of products in 16 bits, which could overflow with all 8. The file is
    cached under `key`.
    """
    target = cache_dir("encoder") / f"{key}.onnx"
    if target.is_file():
        return target
    # Imported here because it is slow and rarely needed.
    from onnxruntime.quantization import QuantType, quantize_dynamic

    partial = target.with_suffix(f".{os.getpid()}.partial")
    # Hides a recommendation of a preprocessing step that this graph does not need.
    logging.getLogger().addFilter(_quiet)
    try:
        quantize_dynamic(
            model,
            partial,
            op_types_to_quantize=["MatMul", "Attention"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            extra_options={"DefaultTensorType": TensorProto.FLOAT},
        )
    finally:
        logging.getLogger().removeFilter(_quiet)
    partial.replace(target)
    return target


def _quiet(record: logging.LogRecord) -> bool:
    return "pre-processing" not in record.getMessage()
