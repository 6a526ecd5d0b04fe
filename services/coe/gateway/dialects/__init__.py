"""The HTTP API's dialects: convert requests to prompts, and events to responses. No I/O."""
