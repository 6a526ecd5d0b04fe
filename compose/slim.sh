#!/bin/sh
# slim.sh VENV LIST: create a virtual environment with our package and the packages in requirements/images/LIST.txt, remove
# files that no service uses, and compile the rest, because images are read-only.
set -eu
venv=$1
python3 -m venv "$venv"
"$venv/bin/pip" install -r "/requirements/$2.txt"
"$venv/bin/pip" install --no-deps composition-of-experts
# Only needed for hub downloads, which `tokenizers` supports but no service uses.
"$venv/bin/pip" uninstall --yes hf-xet
cd "$venv"/lib/python3*/site-packages
rm -rf pip pip-* setuptools setuptools-* _distutils_hack distutils-precedence.pth pkg_resources
# Tools and headers for other programs; Python itself only needs the extension modules.
rm -rf numpy/f2py numpy/_core/include numpy/random/lib numpy/_core/lib onnx/backend onnxruntime/tools onnxruntime/datasets \
    onnxruntime/backend onnxruntime/capi/libonnxruntime.so.*
find . -type d \( -name tests -o -name test \) -prune -exec rm -rf {} +
find . \( -name '*.pyi' -o -name '*.h' -o -name '*.proto' -o -name '*.pxd' -o -name '*.a' \) -delete
"$venv/bin/python" -m compileall -q -j 2 . || true
