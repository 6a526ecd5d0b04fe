# Sourced after engine.sh. `build_images` builds every image without a registry, once the engine runs. Needs say() and $coe, the
# folder of the virtual environment's programs.
export BASE_IMAGE=coe-base:bookworm KAFKA_IMAGE=coe-test/kafka VALKEY_IMAGE=coe-test/valkey

unless_skipped() {
    "$@" && return
    [ -n "$skip" ] || exit 1
    say "SKIPPED: $skip"
    engine_stop
    exit 0
}

build_images() {
    say "base images (debootstrap)"
    base_image coe-base python3,python3-venv
    unless_skipped engine_runs coe-base:bookworm
    base_image coe-java openjdk-17-jre-headless

    say "broker and Redis images"
    context="$state/context"
    mkdir -p "$context/kafka"
    cp "$("$coe/python" -c 'from coe.local.kafka.artifacts import fetch; print(fetch())')"/*.jar "$context/kafka"
    cp compose/test/kafka-entrypoint.sh services/coe/local/kafka/log4j2.properties compose/test/images.Dockerfile "$context"
    cp "$("$coe/python" -c 'from coe.local.valkey import binary; print(binary())')" "$context/valkey-server"
    for target in kafka valkey; do
        docker build --quiet --target "$target" --tag "coe-test/$target" --build-arg BASE_IMAGE --build-arg JAVA_IMAGE=coe-java:bookworm \
            -f "$context/images.Dockerfile" "$context" >"$state/build.log" 2>&1 || { tail -30 "$state/build.log"; exit 1; }
    done

    say "service images"
    (cd compose && docker-compose -f compose.yaml -f compose.load.yaml --profile load build --quiet) >"$state/build.log" 2>&1 ||
        { tail -30 "$state/build.log"; exit 1; }
    compose/test/sizes.sh 400
}
