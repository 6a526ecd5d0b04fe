#!/bin/sh
# Installs into the user's cache, once: helm, Compose v2's parser and promtool, built with Go (promtool takes some minutes), and
# the CRD schemas of KEDA and the Prometheus operator, from their Go modules. Without Go it reports this and exits with 0; the
# tests that need these tools then skip.
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

# A module with exclude directives can only be built from within a module.
build_promtool() { # build_promtool VERSION
    [ -x "$folder/promtool" ] && return
    command -v promtool >/dev/null && return
    if ! command -v go >/dev/null; then
        echo "deploy tools: no Go to build promtool with: its tests will skip"
        return
    fi
    echo "deploy tools: building promtool"
    scratch=$(mktemp -d)
    source=github.com/prometheus/prometheus/cmd/promtool
    if (
        cd "$scratch"
        export GOFLAGS=-mod=mod CGO_ENABLED=0
        go mod init tools && go get "$source@$1" && go build -ldflags '-s -w' -o promtool "$source"
    ) >"$scratch/log" 2>&1; then
        mv "$scratch/promtool" "$folder/promtool"
    else
        echo "deploy tools: promtool could not be built: $(tail -1 "$scratch/log")"
    fi
    rm -rf "$scratch"
}

schemas() { # schemas MODULE@VERSION FILE...
    module=$1 missing=
    shift
    for file; do
        [ -f "$folder/schemas/$(basename "$file")" ] || missing=$file
    done
    [ -n "$missing" ] || return 0
    if ! command -v go >/dev/null; then
        echo "deploy tools: no Go to fetch $module with: its tests will skip"
        return
    fi
    echo "deploy tools: fetching the schemas of $module"
    mkdir -p "$folder/schemas"
    source=$(cd / && GOFLAGS=-mod=mod go mod download -json "$module" | sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p')
    if [ -z "$source" ]; then
        echo "deploy tools: $module could not be fetched"
        return
    fi
    for file; do
        install -m 644 "$source/$file" "$folder/schemas/"
    done
}

build helm helm.sh/helm/v3/cmd/helm@v3.22.0
build compose-spec github.com/compose-spec/compose-go/v2/cmd@v2.16.2
# From Prometheus 3.7.3, as in compose/.env.
build_promtool v0.307.3
schemas github.com/kedacore/keda/v2@v2.21.0 config/crd/bases/keda.sh_scaledobjects.yaml \
    config/crd/bases/keda.sh_triggerauthentications.yaml schema/generated/scalers-schema.json
# The last version whose root module contains the files.
schemas github.com/prometheus-operator/prometheus-operator@v0.85.0 \
    example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml \
    example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml
