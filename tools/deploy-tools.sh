#!/bin/sh
# Builds helm and the parser of Compose v2 with Go into the user's cache, once. Without Go it says so, and ends well: the tests
# that need them skip.
set -eu
folder="${XDG_CACHE_HOME:-$HOME/.cache}/coe/tools"
mkdir -p "$folder"

build() { # build PROGRAM PACKAGE@VERSION
    program=$1 package=$2
    [ -x "$folder/$program" ] && return
    command -v "$program" >/dev/null && return
    if ! command -v go >/dev/null; then
        echo "deploy tools: no Go to build $program with: its tests will skip"
        return
    fi
    echo "deploy tools: building $program"
    scratch=$(mktemp -d)
    if GOBIN="$scratch" GOFLAGS=-mod=mod go install "$package" >"$scratch/log" 2>&1; then
        find "$scratch" -type f -perm -u+x -exec mv {} "$folder/$program" \;
    else
        echo "deploy tools: $program could not be built: $(tail -1 "$scratch/log")"
    fi
    rm -rf "$scratch"
}

build helm helm.sh/helm/v3/cmd/helm@v3.22.0
build compose-spec github.com/compose-spec/compose-go/v2/cmd@v2.16.2
