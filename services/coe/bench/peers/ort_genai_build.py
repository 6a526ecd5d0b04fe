"""Builds an int4 model with onnxruntime-genai's model builder. Arguments: Hugging Face folder, new folder."""

import runpy
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

# Asymmetric k_quant loses the least quality. With prune_lm_head, logits are computed for a prompt's last token only.
OPTIONS = ("algo_config=k_quant", "is_symmetric=false", "prune_lm_head=true", "hf_token=false")


def build(source: str, target: str) -> None:
    """Runs the builder as a script, because its modules import each other by bare names."""
    package = find_spec("onnxruntime_genai")
    if package is None or package.origin is None:
        raise SystemExit("onnxruntime-genai is not installed for this interpreter")
    script = Path(package.origin).parent / "models" / "builder.py"
    sys.path.insert(0, str(script.parent))
    with tempfile.TemporaryDirectory() as cache:
        sys.argv = [str(script), "-i", source, "-o", target, "-p", "int4", "-e", "cpu", "-c", cache]
        sys.argv += ["--extra_options", *OPTIONS]
        runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    build(*sys.argv[1:])
