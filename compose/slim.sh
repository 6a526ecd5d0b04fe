#!/bin/sh
# slim.sh VENV: takes out of a virtual environment what no service uses, and compiles the rest, for images are read-only.
set -eu
packages=$(echo "$1"/lib/python3*/site-packages)
# Only for downloads from a hub, which `tokenizers` can do and no service does.
"$1/bin/pip" uninstall --quiet --yes hf-xet >/dev/null
cd "$packages"
rm -rf pip pip-* setuptools setuptools-* _distutils_hack distutils-precedence.pth pkg_resources
# Tools and headers for other programs; the extension modules hold all that Python calls.
rm -rf numpy/f2py numpy/_core/include numpy/random/lib numpy/_core/lib onnx/backend onnxruntime/tools onnxruntime/datasets \
    onnxruntime/backend onnxruntime/capi/libonnxruntime.so.*
find . -type d \( -name tests -o -name test \) -prune -exec rm -rf {} +
find . \( -name '*.pyi' -o -name '*.h' -o -name '*.proto' -o -name '*.pxd' -o -name '*.a' \) -delete
find . -type d -name __pycache__ -prune -exec rm -rf {} +
"$1/bin/python" -m compileall -q -j 2 . >/dev/null 2>&1 || true
