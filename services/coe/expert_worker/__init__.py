"""The process that runs experts: takes assigned prompts off their topic, generates, and ends each exactly once."""
