# Sourced. A single-node Kubernetes cluster in its own network namespace: `cluster_start`, `cluster_stop`, `kubectl`.
# State is in $state, programs are in $kubernetes; containerd, runc and the CNI plugins come from Debian.
namespace=coe-kube
node_ip=10.97.0.1 pods=10.98.0.0/16 services=10.96.0.0/16 dns_ip=10.97.0.1
cluster_pids=() networks_before=""

# Not `ip netns exec`, because it hides the cgroups.
inside() { nsenter --net="/run/netns/$namespace" -- "$@"; }
kubectl() { inside "$kubernetes/kubectl" --kubeconfig "$state/kubeconfig" "$@"; }

# begin NAME COMMAND...: run in the namespace in the background, with output to a file.
begin() {
    name=$1
    shift
    setsid nsenter --net="/run/netns/$namespace" -- "$@" >"$state/$name.log" 2>&1 &
    cluster_pids+=("$!")
}

# until_true SECONDS WHAT COMMAND...: retry the command; if it does not succeed in time, print WHAT and return 1.
until_true() {
    seconds=$1 what=$2
    shift 2
    for _ in $(seq "$seconds"); do
        "$@" >/dev/null 2>&1 && return
        sleep 1
    done
    echo "not within $seconds s: $what" >&2
    return 1
}

network() {
    ip netns add "$namespace"
    inside ip link set lo up
    # The node's address: one end of a veth pair whose other end is unused.
    inside ip link add node0 type veth peer name node1
    inside ip addr add "$node_ip/24" dev node0
    inside ip link set node0 up
    inside ip link set node1 up
    inside ip route add default dev node0
    inside sysctl -q -w net.ipv4.ip_forward=1
}

# kubeconfig: every user is an administrator; the namespace is not reachable from outside.
settings() {
    openssl genrsa -out "$state/accounts.key" 2048 2>/dev/null
    openssl rsa -in "$state/accounts.key" -pubout -out "$state/accounts.pub" 2>/dev/null
    token=$(openssl rand -hex 16)
    echo "$token,admin,admin,system:masters" >"$state/tokens.csv"
    cat >"$state/kubeconfig" <<END
apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "https://$node_ip:6443", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: "$token"}}]
contexts: [{name: test, context: {cluster: test, user: admin}}]
current-context: test
END
    mkdir -p "$state/cni" "$state/manifests"
    cat >"$state/cni/10-bridge.conflist" <<END
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$state/cni-ips", "ranges": [[{"subnet": "$pods"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
END
    cat >"$state/containerd.toml" <<END
version = 2
root = "$state/containerd"
state = "$state/containerd-run"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "$state/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/coe-test/pause:latest"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$state/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
END
    cat >"$state/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: "unix://$state/containerd.sock"
cgroupDriver: cgroupfs
clusterDNS: ["$dns_ip"]
clusterDomain: cluster.local
resolvConf: "$state/resolv.conf"
failSwapOn: false
failCgroupV1: false
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
evictionHard: {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"}
localStorageCapacityIsolation: false
makeIPTablesUtilChains: true
END
    echo "nameserver $dns_ip" >"$state/resolv.conf"
    cat >"$state/Corefile" <<END
cluster.local {
    bind $dns_ip
    errors
    kubernetes {
        kubeconfig $state/kubeconfig
    }
}
# Nothing else is reachable from here.
. {
    bind $dns_ip
    template ANY ANY {
        rcode NXDOMAIN
    }
}
END
}

pods_networks() { ip netns list | grep -o '^cni-[^ ]*' | tr '\n' ' ' || true; }

cluster_start() {
    networks_before=$(pods_networks)
    network
    settings
    begin etcd "$kubernetes/etcd" --data-dir "$state/etcd" --unsafe-no-fsync --log-level error
    begin apiserver "$kubernetes/kube-apiserver" --etcd-servers http://127.0.0.1:2379 --cert-dir "$state/apiserver" \
        --advertise-address "$node_ip" --bind-address "$node_ip" --service-cluster-ip-range "$services" \
        --service-account-issuer https://kubernetes.default.svc --service-account-key-file "$state/accounts.pub" \
        --service-account-signing-key-file "$state/accounts.key" --token-auth-file "$state/tokens.csv" \
        --authorization-mode AlwaysAllow --kubelet-preferred-address-types InternalIP
    until_true 60 "the API server answers" kubectl get --raw /readyz
    begin controllers "$kubernetes/kube-controller-manager" --kubeconfig "$state/kubeconfig" --leader-elect=false \
        --service-account-private-key-file "$state/accounts.key" --controllers '*,-cloud-node-lifecycle-controller'
    begin scheduler "$kubernetes/kube-scheduler" --kubeconfig "$state/kubeconfig" --leader-elect=false
    begin containerd containerd --config "$state/containerd.toml"
    begin proxy "$kubernetes/kube-proxy" --kubeconfig "$state/kubeconfig" --hostname-override node --proxy-mode iptables \
        --cluster-cidr "$pods" --conntrack-max-per-core 0
    begin dns "$kubernetes/coredns" -conf "$state/Corefile"
    begin kubelet "$kubernetes/kubelet" --config "$state/kubelet.yaml" --kubeconfig "$state/kubeconfig" \
        --hostname-override node --node-ip "$node_ip" --root-dir "$state/kubelet" --cert-dir "$state/kubelet-certs"
    kubelet_pid=$!
    until_true 60 "the node registers" kubectl get node node
    until_true 60 "the node is ready" kubectl wait --for=condition=Ready node/node --timeout=1s
}

containers() { inside ctr --address "$state/containerd.sock" --namespace k8s.io "$@"; }

# images NAME...: copy images from the container engine into the cluster's.
images() { docker save "$@" | containers images import --snapshotter overlayfs - >/dev/null; }

cluster_stop() {
    if [ -S "$state/containerd.sock" ]; then
        # Processes that a kubelet started outlive it.
        [ -z "${kubelet_pid:-}" ] || kill "$kubelet_pid" 2>/dev/null || true
        for task in $(containers tasks ls -q); do containers tasks kill --signal KILL "$task" 2>/dev/null || true; done
        for _ in $(seq 20); do
            containers tasks ls | grep -q RUNNING || break
            sleep 0.5
        done
    fi
    [ "${#cluster_pids[@]}" = 0 ] || kill "${cluster_pids[@]}" 2>/dev/null || true
    wait "${cluster_pids[@]}" 2>/dev/null || true
    for pid in $(ip netns pids "$namespace" 2>/dev/null); do kill -9 "$pid" 2>/dev/null || true; done
    for pod in $(pods_networks); do
        [[ " $networks_before " == *" $pod "* ]] || ip netns del "$pod" 2>/dev/null || true
    done
    ip netns del "$namespace" 2>/dev/null || true
    grep -o " $state/[^ ]*" /proc/mounts | sort -r | while read -r mounted; do umount -l "$mounted" 2>/dev/null || true; done
}
