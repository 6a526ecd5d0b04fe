"""Options of channels and servers: keepalive finds dead peers, sizes are bounded."""

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
    # However long nothing else is said: a stream may be silent while its prompt waits.
    ("grpc.http2.max_pings_without_data", 0),
    # A service that was restarted is found again within seconds.
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 3_000),
]

SERVER: list[tuple[str, int]] = [
    *_SIZES,
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # Our channels ask so often, and also while no call is under way. Whoever asks more often than a server says here is
    # told of "too many pings", and its calls fail.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Two servers on one port would share its calls at random: fail instead.
    ("grpc.so_reuseport", 0),
]
