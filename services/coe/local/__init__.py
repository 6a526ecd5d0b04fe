"""The embedded stack: a broker, a Redis-protocol server and the services as child processes on loopback ports."""
