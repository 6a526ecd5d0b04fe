#!/bin/sh
# Installs the Debian packages that the build and the embedded stack need and that are missing.
set -eu

missing=""
need() { # need PACKAGE TEST...
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}

python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "$python is not Python 3.11 or newer: install it, or name another: make PYTHON=..." >&2
    exit 1
fi

java17() { java -version 2>&1 | grep -Eq 'version "(1[7-9]|[2-9][0-9])'; }

need openjdk-17-jre-headless java17
need maven mvn -v
need g++ g++ --version
need cmake cmake --version
need ninja-build ninja --version
need libgtest-dev test -e /usr/include/gtest/gtest.h
need util-linux setpriv --version
need ca-certificates test -e /etc/ssl/certs/ca-certificates.crt
need python3-venv "$python" -c 'import ensurepip, venv'
need python3-dev "$python" -c 'import pathlib, sysconfig; assert (pathlib.Path(sysconfig.get_path("include")) / "Python.h").exists()'

if [ -z "$missing" ]; then
    echo "system packages: all installed"
    exit 0
fi
echo "system packages: installing$missing"
if ! command -v apt-get >/dev/null; then
    echo "not a Debian system: install the equivalents of$missing and try again" >&2
    exit 1
fi
as_root=""
[ "$(id -u)" = 0 ] || as_root=sudo
$as_root apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing
