# Sourced by run.sh after the first stack is down: the same stack with everything encrypted, using its own authority.
say "TLS: up"
base_image coe-redis redis-server
tools/certificates.sh "$state/certificates" kafka valkey router mapper memory-tier-manager gateway expert-worker load
tools/certificates.sh "$state/others" load
export CERTIFICATES=$state/certificates VALKEY_IMAGE=coe-test/redis-tls
docker build --quiet --target redis --tag "$VALKEY_IMAGE" --build-arg BASE_IMAGE --build-arg JAVA_IMAGE=coe-java:bookworm \
    --build-arg REDIS_IMAGE=coe-redis:bookworm -f "$context/images.Dockerfile" "$context" >"$state/build.log" 2>&1 ||
    { tail -30 "$state/build.log"; exit 1; }
files=(-f compose.yaml -f compose.hostnet.yaml -f compose.load.yaml -f compose.load.hostnet.yaml
    -f compose.tls.yaml -f compose.tls.hostnet.yaml -f compose.load.tls.yaml)
up

say "TLS: submit"
export COE_KAFKA_SECURITY=SSL COE_TLS_CERT=$CERTIFICATES/load.pem COE_TLS_KEY=$CERTIFICATES/load.key
COE_TLS_CA=$CERTIFICATES/ca.pem "$coe/coe" submit "What is two plus two?" --max-tokens 8

say "TLS: an authority that is not ours is one clear error"
if COE_TLS_CA=$state/others/ca.pem "$coe/coe" submit "hello" 2>"$state/refused"; then
    echo "a broker with an untrusted certificate was trusted" >&2
    exit 1
fi
cat "$state/refused"
[ "$(wc -l <"$state/refused")" = 1 ]
grep -q certificate "$state/refused"

say "TLS: load"
for transport in kafka grpc http; do load --profile containers --transport "$transport"; done

say "TLS: every service, the broker and Redis as coe doctor sees them"
services=(router=127.0.0.1:$ROUTER_PORT mapper=127.0.0.1:$MAPPER_PORT tiers=127.0.0.1:$TIERS_PORT
    worker-0=127.0.0.1:$WORKER_0_PORT worker-1=127.0.0.1:$WORKER_1_PORT gateway=127.0.0.1:$GATEWAY_PORT)
COE_TLS_CA=$CERTIFICATES/ca.pem COE_GRPC_TLS=mutual COE_REDIS_URL=rediss://127.0.0.1:$VALKEY_PORT/0 \
    "$coe/coe" doctor --deploy "${services[@]/#/--service=}" | tee "$state/doctor"
grep -q "node-0" "$state/doctor"
