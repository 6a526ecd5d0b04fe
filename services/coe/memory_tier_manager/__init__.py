"""The memory-tier manager of a node: which experts' weights are on disk, in DDR and in HBM, and who holds leases.

One run loop owns all state. `Tiers.handle(event, now)` returns effects; `Runtime` performs them and feeds their results
back as events. All decisions are made by pure code; docs/memory-and-scheduling.md lists which module decides what.
"""
