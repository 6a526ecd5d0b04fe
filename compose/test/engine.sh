# Sourced. Runs a separate container engine: `engine_start`, `engine_stop`. Its state is in $state; an existing Docker is not
# touched. Failures return 1; if this machine can't run an engine, the reason is in $skip.
engine_pid="" skip=""
refused='operation not permitted|permission denied|not implemented|not supported|not mounted|no such device|read-only file system'

# Containers need namespaces and cgroups.
kernel_allows() {
    [ "$(id -u)" = 0 ] || { skip="a container engine needs root"; return 1; }
    why=$(unshare --mount --pid --ipc --uts --fork true 2>&1) || { skip="the kernel allows no namespaces: $why"; return 1; }
    grep -q cgroup /proc/mounts || { skip="no cgroups are mounted"; return 1; }
}

# kernel_refused FILE: whether the last error in FILE comes from the kernel, which is then the reason to skip.
kernel_refused() {
    why=$(grep -iE 'level=(error|fatal)|failed|error' "$1" | tail -1)
    grep -qiE "$refused" <<<"$why" || { tail -20 "$1"; return 1; }
    skip="the kernel does not allow a container engine: $why"
}

engine_install() {
    missing=""
    command -v dockerd >/dev/null || missing="$missing docker.io"
    command -v docker-compose >/dev/null || missing="$missing docker-compose"
    command -v debootstrap >/dev/null || missing="$missing debootstrap"
    [ -z "$missing" ] && return
    command -v apt-get >/dev/null || { skip="no$missing, and no apt-get"; return 1; }
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >"$state/apt.log" 2>&1 ||
        { tail -5 "$state/apt.log"; return 1; }
}

engine_start() {
    kernel_allows || return 1
    engine_install || return 1
    export DOCKER_HOST="unix://$state/docker.sock" DOCKER_BUILDKIT=0 COMPOSE_DOCKER_CLI_BUILD=0
    # No bridge and no firewall rules: containers share the host's network.
    setsid dockerd --data-root "$state/data" --exec-root "$state/exec" --pidfile "$state/dockerd.pid" \
        --host "$DOCKER_HOST" --bridge=none --iptables=false --ip6tables=false >"$state/dockerd.log" 2>&1 &
    engine_pid=$!
    for _ in $(seq 60); do
        docker version >/dev/null 2>&1 && return
        kill -0 "$engine_pid" 2>/dev/null || break
        sleep 0.5
    done
    kernel_refused "$state/dockerd.log" || true
    return 1
}

# engine_runs IMAGE: whether our engine can run a container at all.
engine_runs() {
    docker run --rm --network host --read-only --cap-drop ALL "$1" true >"$state/first.log" 2>&1 && return
    kernel_refused "$state/first.log" || true
    return 1
}

engine_stop() {
    [ -n "$engine_pid" ] || return 0
    kill "$engine_pid" 2>/dev/null || true
    wait "$engine_pid" 2>/dev/null || true
    engine_pid=""
    # The engine leaves its host-network mounts behind.
    umount "$state/exec/netns/default" 2>/dev/null || true
}

# base_image NAME PACKAGES: make a Debian image with debootstrap, cached as an archive in the user's cache.
base_image() {
    name=$1 packages=$2
    # Remove documentation, translations and files used only by apt's scripts. A changed recipe makes a new archive.
    unused="usr/share/doc usr/share/man usr/share/info usr/share/locale usr/share/i18n usr/lib/x86_64-linux-gnu/gconv \
        usr/lib/python3.11/pydoc_data usr/lib/python3.11/test var/cache/apt var/cache/debconf var/lib/apt/lists"
    recipe=$(printf '%s' "$packages $unused" | sha256sum | cut -c1-8)
    archive="${XDG_CACHE_HOME:-$HOME/.cache}/coe/images/$name-$recipe.tar"
    if [ ! -e "$archive" ]; then
        mkdir -p "$(dirname "$archive")"
        debootstrap --variant=minbase --include="$packages" bookworm "$state/root" >"$state/debootstrap.log" 2>&1 ||
            { tail -5 "$state/debootstrap.log"; return 1; }
        excluded=()
        for folder in $unused proc sys dev; do excluded+=(--exclude="./$folder/*"); done
        tar -C "$state/root" "${excluded[@]}" -cf "$archive.part" .
        mv "$archive.part" "$archive"
        rm -rf "$state/root"
    fi
    docker import --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8' \
        "$archive" "$name:bookworm" >/dev/null
}
