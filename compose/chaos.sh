#!/bin/sh
# chaos.sh PROJECT SECONDS SERVICE...: crashes each service's process in turn, SECONDS apart. The restart policy of
# compose.chaos.yaml brings it back. The process is killed on the host: a `docker kill` would count as the user's wish.
set -eu
project=$1 pause=$2
shift 2
for service in "$@"; do
    sleep "$pause"
    id=$(docker ps --quiet --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=$service")
    pid=$(docker inspect --format '{{.State.Pid}}' "$id")
    # Of an engine in a machine of its own (Docker Desktop, a remote one) the number is another process's here; 0 is none's.
    grep -qs "$id" "/proc/$pid/cgroup" "/proc/$pid/mountinfo" ||
        { echo "chaos: $service (process $pid) does not run on this machine" >&2; exit 1; }
    echo "chaos: killing $service (process $pid)"
    kill -9 "$pid"
done
