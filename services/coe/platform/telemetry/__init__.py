"""OpenTelemetry for all processes: providers, metrics, names, and spans of Kafka messages and calls."""
