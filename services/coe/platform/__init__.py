"""What the services share: bus (Kafka), rpc (gRPC), residency (Redis), telemetry, settings, errors."""
