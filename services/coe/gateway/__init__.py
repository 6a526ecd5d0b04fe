"""The front door: gRPC `Generate` and an OpenAI-compatible HTTP API over the Kafka path."""
