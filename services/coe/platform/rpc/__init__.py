"""gRPC as used by all services: rich errors, deadlines, spans, keepalive."""
