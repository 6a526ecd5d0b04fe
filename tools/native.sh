#!/usr/bin/env bash
# Builds and checks the native library: tools/native.sh build | test | asan | tsan | format | format-check
# Build folders are build/native*; `build` also copies the library into the package, where `coe.native` finds it.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-$(test -x .venv/bin/python && echo "$PWD/.venv/bin/python" || command -v python3)}
source_dir=services/coe/native
tests_dir=tests/unit/native/cc

configure() { # folder, further options
  local folder=$1
  shift
  cmake -S "$source_dir" -B "$folder" -G Ninja -DPython_EXECUTABLE="$python" "$@" >"$folder.log" 2>&1 ||
    { cat "$folder.log" >&2; exit 1; }
}

# Tests every instruction set that the machine supports; COE_NATIVE_ISA can only lower it.
run_tests() { ctest --test-dir "$1" --output-on-failure --timeout 300; }

sources() { find "$source_dir" "$tests_dir" -name '*.h' -o -name '*.cc' -o -name '*.inl'; }

mkdir -p build
case ${1:-} in
  build)
    configure build/native
    cmake --build build/native
    # Replaced atomically: a running process keeps the file that it has mapped.
    cp build/native/libcoe_native.so "$source_dir/.libcoe_native.so.new"
    mv "$source_dir/.libcoe_native.so.new" "$source_dir/libcoe_native.so"
    ;;
  test)
    configure build/native-tests -DCOE_NATIVE_TESTS=ON
    cmake --build build/native-tests
    run_tests build/native-tests
    ;;
  asan) # not optimised: the wide kernels take minutes to compile otherwise
    configure build/native-asan -DCOE_NATIVE_TESTS=ON -DCOE_NATIVE_SANITIZE=address,undefined -DCMAKE_BUILD_TYPE=Debug
    cmake --build build/native-asan
    run_tests build/native-asan
    ;;
  tsan)
    configure build/native-tsan -DCOE_NATIVE_TESTS=ON -DCOE_NATIVE_SANITIZE=thread -DCMAKE_BUILD_TYPE=Debug \
      -DCMAKE_CXX_FLAGS=-O1
    cmake --build build/native-tsan
    run_tests build/native-tsan
    ;;
  format) sources | xargs "$(dirname "$python")/clang-format" -i ;;
  format-check) sources | xargs "$(dirname "$python")/clang-format" --dry-run -Werror ;;
  *)
    sed -n '2,3p' "$0" >&2
    exit 2
    ;;
esac
