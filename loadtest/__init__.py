"""Load tests: an open-loop generator over Kafka, gRPC or HTTP, profiles as files, percentiles, reports."""
