#!/usr/bin/env bash
# Builds the programs of a Kubernetes cluster from their Go modules into the user's cache, once (a quarter of an hour on two
# cores), and prints the folder. Needs Go.
set -euo pipefail
kubernetes=1.34.4 etcd=3.6.15 coredns=1.14.7
folder="${XDG_CACHE_HOME:-$HOME/.cache}/coe/kubernetes-$kubernetes"
mkdir -p "$folder"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"
export GOFLAGS=-mod=mod CGO_ENABLED=0

# The module replaces its submodules by relative paths: they are also published as modules, with the same version.
kubernetes_module() {
    # Run outside our module: a module that requires Kubernetes can't be loaded until it replaces the submodules.
    source=$(cd / && go mod download -json "k8s.io/kubernetes@v$kubernetes" | sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p')
    printf 'module programs\nrequire k8s.io/kubernetes v%s\n' "$kubernetes" >go.mod
    { grep -E '^go ' "$source/go.mod"
      sed -n 's|.*\(k8s.io/[a-z-]*\) => ./staging/.*|\1|p' "$source/go.mod" | sort -u |
          while read -r part; do echo "replace $part => $part v0.${kubernetes#1.}"; done; } >>go.mod
}

module() { # module MODULE@VERSION
    printf 'module programs\n' >go.mod
    go get "$1"
}

build() { # build PROGRAM PACKAGE [FLAGS]
    echo "building $1" >&2
    go build -ldflags "-s -w ${3:-}" -o "$1" "$2"
    mv "$1" "$folder/$1"
}

version=k8s.io/component-base/version
flags="-X $version.gitVersion=v$kubernetes -X $version.gitMajor=1 -X $version.gitMinor=34"
for program in kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl; do
    [ -x "$folder/$program" ] && continue
    [ -e go.mod ] || kubernetes_module
    build "$program" "k8s.io/kubernetes/cmd/$program" "$flags"
done
rm -f go.mod go.sum
[ -x "$folder/etcd" ] || { module "go.etcd.io/etcd/server/v3@v$etcd" && build etcd go.etcd.io/etcd/server/v3; }
rm -f go.mod go.sum
[ -x "$folder/coredns" ] || { module "github.com/coredns/coredns@v$coredns" && build coredns github.com/coredns/coredns; }
echo "$folder"
