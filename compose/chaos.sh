#!/bin/sh
# chaos.sh PROJECT SECONDS SERVICE...: kill each service's process in turn, SECONDS apart. The restart policy in
# compose.chaos.yaml restarts it. The process is killed on the host, because Docker does not restart after `docker kill`.
set -eu
project=$1 pause=$2
shift 2
for service in "$@"; do
    sleep "$pause"
    id=$(docker ps --quiet --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=$service")
    pid=$(docker inspect --format '{{.State.Pid}}' "$id")
    # If the engine runs on another machine (Docker Desktop, remote), this pid belongs to another process here; 0 means none.
    grep -qs "$id" "/proc/$pid/cgroup" "/proc/$pid/mountinfo" ||
        { echo "chaos: $service (process $pid) does not run on this machine" >&2; exit 1; }
    echo "chaos: killing $service (process $pid)"
    kill -9 "$pid"
done
