"""OpenTelemetry of every process: providers, names, spans of Kafka and gRPC."""
