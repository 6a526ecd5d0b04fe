"""A Composition of Experts serving system: route a prompt, map it to one expert, run that expert from memory tiers."""

import os

# Before anything imports ONNX Runtime, whose wheels report each session to their maker unless they are told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
