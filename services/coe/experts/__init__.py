"""Expert LLMs: bundles and their import, weightless graphs, tokenizers, and the engine that generates with them."""
