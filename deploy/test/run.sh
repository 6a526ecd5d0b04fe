#!/usr/bin/env bash
# Installs the chart in a single-node Kubernetes cluster that it starts itself, submits prompts, kills, upgrades and scales pods
# under load, and takes everything down. The images are those of compose/test. If the kernel allows no containers, it reports this
# and exits with 0.
set -euo pipefail
cd "$(dirname "$0")/../.."
coe=$PWD/.venv/bin
state=$(mktemp -d "${TMPDIR:-/tmp}/coe-kubernetes.XXXXXX")
say() { printf '\033[1m==>\033[0m %s (%s s)\n' "$*" "$SECONDS"; }
. compose/test/engine.sh
. compose/test/images.sh
. deploy/test/cluster.sh

finish() {
    status=$?
    trap - EXIT
    if [ "$status" != 0 ] && [ "${#cluster_pids[@]}" != 0 ]; then
        say "failed: what the cluster tells"
        kubectl get pods || true
        kubectl get events --sort-by=.lastTimestamp | tail -20 || true
        kubectl logs --selector app.kubernetes.io/name=coe --all-containers --prefix --tail=5 --max-log-requests 20 | cut -c1-300 || true
        for log in "$state"/*.log; do echo "-- $log"; tail -n 3 "$log"; done
    fi
    cluster_stop
    engine_stop
    rm -rf "$state"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

chart() { # chart VERB [FLAGS]
    verb=$1
    shift
    inside "$helm" --kubeconfig "$state/kubeconfig" "$verb" coe deploy/helm/coe --values deploy/test/values.yaml --wait --timeout 5m "$@" >"$state/helm.log"
}

# client NAME COMMAND...: run a pod of the load image; `ended NAME` prints its output and returns its exit status.
client() {
    name=$1
    shift
    kubectl run "$name" --image coe/load:0.1.0 --restart Never --env COE_KAFKA_BOOTSTRAP=kafka-bootstrap:9092 --env HOME=/tmp \
        --env COE_REDIS_URL=redis://valkey:6379/0 --env COE_GATEWAY=coe-gateway:7000 --env COE_GATEWAY_HTTP=coe-gateway:8080 \
        --command -- "$@" >/dev/null
}
ended() {
    kubectl wait --for=jsonpath='{.status.containerStatuses[0].state.terminated}' "pod/$1" --timeout=300s >/dev/null
    kubectl logs "$1"
    [ "$(kubectl get pod "$1" -o jsonpath='{.status.containerStatuses[0].state.terminated.exitCode}')" = 0 ]
    kubectl delete pod "$1" --now >/dev/null
}
no_claims() { [ -z "$(kubectl get persistentvolumeclaims -o name)" ]; }
load() { client "$1" python -m loadtest run --profile chaos --transport "$2"; }

say "programs of Kubernetes"
command -v go >/dev/null || { say "SKIPPED: no Go to build Kubernetes with"; exit 0; }
kubernetes=$(tools/kubernetes.sh)
helm=$(command -v helm || echo "${XDG_CACHE_HOME:-$HOME/.cache}/coe/tools/helm")
missing=""
for package in containernetworking-plugins iptables iproute2 openssl; do
    # dpkg also lists packages that others merely recommend.
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done
if [ -n "$missing" ]; then
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >"$state/apt.log" 2>&1 ||
        { tail -5 "$state/apt.log"; exit 1; }
fi

say "container engine"
unless_skipped engine_start
build_images
printf 'FROM coe-base:bookworm\nCMD ["sleep", "infinity"]\n' | docker build --quiet --tag coe-test/pause - >/dev/null 2>&1

say "cluster"
cluster_start
kubectl version | tail -1
images coe-test/pause coe-test/kafka coe-test/valkey coe/{gateway,router,mapper,memory-tier-manager,expert-worker,prepare,load}:0.1.0
engine_stop
install -d -o 10001 -g 10001 "$state/volumes/first" "$state/volumes/second"
sed "s|\$state|$state|" deploy/test/backing.yaml | kubectl apply -f - >/dev/null
kubectl wait --for=condition=Available deployment/kafka deployment/valkey --timeout=120s >/dev/null

say "install"
chart install
kubectl get pods

say "ask over HTTP, by the service's address"
address=$(kubectl get service coe-gateway -o jsonpath='{.spec.clusterIP}'):8080
inside curl -sS --fail-with-body -m 120 "http://$address/v1/chat/completions" -H 'content-type: application/json' \
    -d '{"model": "smollm2-135m", "messages": [{"role": "user", "content": "What is two plus two?"}], "max_tokens": 8}'
echo

say "what coe doctor sees"
client doctor coe doctor --deploy --service gateway=coe-gateway:7000 --service router=coe-router:7000 \
    --service mapper=coe-mapper:7000 --service tiers=coe-node-0.coe-node:7040
ended doctor

say "a node's pod is killed under load; nothing may be lost"
load broken kafka
sleep 10
kubectl delete pod coe-node-0 --now >/dev/null
ended broken

say "an upgrade replaces every pod under load"
load upgraded grpc
sleep 10
chart upgrade --set telemetry.logLevel=WARNING
ended upgraded

say "two nodes"
chart upgrade --set node.replicas=2
client doctor coe doctor --deploy --service tiers=coe-node-1.coe-node:7040
ended doctor
load spread http
ended spread

say "uninstall"
inside "$helm" --kubeconfig "$state/kubeconfig" uninstall coe --wait --timeout 3m >/dev/null
until_true 60 "claims on volumes are gone" no_claims
say "all well"
