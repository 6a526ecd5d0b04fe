# Substitutes for the official broker and Redis images, with the same settings and paths, for use without a registry.
ARG JAVA_IMAGE
ARG BASE_IMAGE
ARG REDIS_IMAGE

FROM ${JAVA_IMAGE} AS kafka
RUN useradd --system --uid 10001 kafka && mkdir -p /var/lib/kafka/data && chown -R kafka /var/lib/kafka
COPY kafka /opt/kafka/libs
COPY kafka-entrypoint.sh log4j2.properties /opt/kafka/
USER 10001
VOLUME /var/lib/kafka/data
CMD ["sh", "/opt/kafka/kafka-entrypoint.sh"]

FROM ${BASE_IMAGE} AS valkey
COPY valkey-server /usr/local/bin/valkey-server
USER 10001

# Debian's Redis under the same name, because the wheel's server is built without TLS.
FROM ${REDIS_IMAGE} AS redis
RUN ln -s redis-server /usr/bin/valkey-server
USER 10001
