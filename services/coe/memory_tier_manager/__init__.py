"""The memory-tier manager of a node: which expert's weights are on disk, in DDR, in HBM, and who holds a lease.

One run loop owns all state: `Tiers.handle(event, now)` returns effects, `Runtime` performs them and feeds back what
came of it. Everything that decides is pure; docs/memory-and-scheduling.md says which module decides what.
"""
