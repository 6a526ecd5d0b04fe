"""gRPC as all services speak it: rich errors, deadlines, spans, keepalive."""
