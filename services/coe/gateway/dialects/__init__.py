"""The ways to ask over HTTP, a module each: requests as prompts, events as answers. No I/O."""
