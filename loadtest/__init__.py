"""Load tests: an open-loop generator over Kafka, gRPC or HTTP, with profile files, percentiles and reports."""
