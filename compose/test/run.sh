#!/usr/bin/env bash
# Builds every image without a registry, starts the stack on the host's loopback, submits prompts, applies load, kills services
# and takes everything down; then repeats this with encryption.
# If the kernel allows no container engine, it reports why and exits with 0; any other failure fails the test.
set -euo pipefail
cd "$(dirname "$0")/../.."
coe=$PWD/.venv/bin
state=$(mktemp -d "${TMPDIR:-/tmp}/coe-compose.XXXXXX")
say() { printf '\033[1m==>\033[0m %s (%s s)\n' "$*" "$SECONDS"; }
. compose/test/engine.sh
. compose/test/images.sh

files=(-f compose.yaml -f compose.hostnet.yaml -f compose.load.yaml -f compose.load.hostnet.yaml -f compose.chaos.yaml)
compose() { (cd compose && docker-compose "${files[@]}" "$@"); }
up() {
    compose up -d --no-build >"$state/up.log" 2>&1 || { cat "$state/up.log"; exit 1; }
    compose/test/wait-healthy.sh "$COMPOSE_PROJECT_NAME" 240
}
down() { compose down --volumes --timeout 20 >"$state/down.log" 2>&1 || { cat "$state/down.log"; return 1; }; }
load() { compose run --rm load run "$@"; }

finish() {
    status=$?
    trap - EXIT
    if [ -n "$engine_pid" ]; then
        if [ "$status" != 0 ]; then
            say "failed: the ends of the logs"
            compose ps || true
            compose logs --tail=15 --no-color || true
        fi
        say "taking everything down"
        down || true
    fi
    engine_stop
    rm -rf "$state"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

say "container engine"
unless_skipped engine_start
docker version --format 'engine {{.Server.Version}}'

# Ports of this run: different from the defaults, so as not to disturb a stack on this machine.
export KAFKA_PORT=27092 KAFKA_INTERNAL_PORT=27094 KAFKA_CONTROLLER_PORT=27093 VALKEY_PORT=27379
export GATEWAY_PORT=27000 GATEWAY_HTTP_PORT=27080 ROUTER_PORT=27010 MAPPER_PORT=27020 TIERS_PORT=27040
export WORKER_0_PORT=27050 WORKER_1_PORT=27051 COMPOSE_PROJECT_NAME=coetest SHARED_MEMORY=1g

build_images

say "up"
up

say "submit"
export COE_KAFKA_BOOTSTRAP=127.0.0.1:$KAFKA_PORT
"$coe/coe" submit "What is two plus two?" --max-tokens 8

say "load"
load --profile containers
load --profile smoke --transport grpc

say "chaos: containers are killed while load runs; nothing may be lost"
compose/chaos.sh "$COMPOSE_PROJECT_NAME" 3 expert-worker-0 router memory-tier-manager &
chaos=$!
load --profile chaos
wait "$chaos"
compose/test/wait-healthy.sh "$COMPOSE_PROJECT_NAME" 120
down

. compose/test/tls.sh
say "all well"
