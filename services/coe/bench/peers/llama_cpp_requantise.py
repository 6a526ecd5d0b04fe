"""A GGUF file with its matrices as Q4_0, by llama.cpp itself. Arguments: file, new file, format of the embedding."""

import sys

import llama_cpp  # type: ignore[import-not-found, unused-ignore]


def requantise(source: str, target: str, embedding: str) -> None:
    """The embedding (of a tied model the output matrix too) keeps the format that it has."""
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0
    settings.allow_requantize = True
    settings.token_embedding_type = settings.output_tensor_type = getattr(llama_cpp, f"GGML_TYPE_{embedding}")
    if status := llama_cpp.llama_model_quantize(source.encode(), target.encode(), settings):
        raise SystemExit(f"llama_model_quantize failed: {status}")


if __name__ == "__main__":
    requantise(*sys.argv[1:])
