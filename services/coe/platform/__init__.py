"""Code shared by the services: bus (Kafka), rpc (gRPC), residency (Redis), telemetry, settings, errors."""
