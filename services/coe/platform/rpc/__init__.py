"""gRPC servers and channels: health, reflection, rich errors, deadlines."""
