"""Options for channels and servers: keepalive to detect dead peers, and message size limits."""

MAX_MESSAGE_BYTES = 4 * 1024 * 1024

_SIZES = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
]

CHANNEL: list[tuple[str, int]] = [
    *_SIZES,
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # No limit on pings without data: a stream may be silent for long while its prompt waits.
    ("grpc.http2.max_pings_without_data", 0),
    # Reconnects to a restarted service within seconds.
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 3_000),
]

SERVER: list[tuple[str, int]] = [
    *_SIZES,
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # Allows pings as frequent as those of our channels, and without running calls. A client that pings more often gets
    # "too many pings", and its calls fail.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Binding a port in use fails, rather than letting two servers share its calls at random.
    ("grpc.so_reuseport", 0),
]
