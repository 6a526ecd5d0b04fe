"""The process that runs experts: consumes assigned prompts, generates, and answers each one exactly once.

`loop.py` is the pure state machine that decides; `worker.py` feeds it events and carries out its effects; `runners.py`
generates, in the thread of `engine_thread.py`; `tier_client.py` gets leases from the node's memory-tier manager.
`service.py` wires them together.
"""
