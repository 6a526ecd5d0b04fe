"""The gateway: gRPC `Generate` and an OpenAI-compatible HTTP API in front of the Kafka path."""
