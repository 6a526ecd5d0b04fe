#!/bin/sh
# wait-healthy.sh PROJECT SECONDS: wait until every running container of the project is healthy.
set -eu
project=$1 seconds=$2
while :; do
    waiting=""
    for id in $(docker ps --all --quiet --filter "label=com.docker.compose.project=$project"); do
        state=$(docker inspect --format '{{.Name}} {{.State.Status}} {{.State.ExitCode}} {{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}' "$id")
        case $state in
        *" running 0 healthy" | *" running 0 none" | *" exited 0 "*) ;;
        *) waiting="$waiting$state
" ;;
        esac
    done
    [ -z "$waiting" ] && exit 0
    if [ "$seconds" -le 0 ]; then
        printf 'not healthy:\n%s' "$waiting" >&2
        exit 1
    fi
    seconds=$((seconds - 1))
    sleep 1
done
