"""Clients of the system: over Kafka (what producers do) and over gRPC (the gateway)."""
