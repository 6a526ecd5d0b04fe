"""Requantises a GGUF file's matrices to Q4_0 with llama.cpp. Arguments: file, new file, format of the embedding."""

import sys

import llama_cpp  # type: ignore[import-not-found, unused-ignore]


def requantise(source: str, target: str, embedding: str) -> None:
    """The embedding keeps its format, and the output matrix takes that format too (in a tied model they are one)."""
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0
    settings.allow_requantize = True
    settings.token_embedding_type = settings.output_tensor_type = getattr(llama_cpp, f"GGML_TYPE_{embedding}")
    if status := llama_cpp.llama_model_quantize(source.encode(), target.encode(), settings):
        raise SystemExit(f"llama_model_quantize failed: {status}")


if __name__ == "__main__":
    requantise(*sys.argv[1:])
