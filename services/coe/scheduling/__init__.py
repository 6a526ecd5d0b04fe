"""Scheduling policies: which expert runs next, with which prompts, and what to prefetch meanwhile.

A policy is a pure function of the queues and the clock (`policy.py` has the interface), so the worker's run loop and
the simulator share the same code. Settings select a policy by name:

| name | order | batches | copy and run | prefetch | eviction |
|---|---|---|---|---|---|
| `fifo` | arrival | one prompt | sequential | no | first in, first out |
| `samba-coe` | arrival | one prompt | sequential | no | least recently used |
| `lru` | arrival | consecutive prompts of one expert | overlapped | no | least recently used |
| `coserve` | groups by expert, in order of formation | closed | sequential | no | lowest probability |
| `lookahead` | groups by expert, ageing bound | continuous | overlapped | next two | farthest use, probability, LRU |
"""

from coe.scheduling.estimates import Exponential, LearnedCosts, Line
from coe.scheduling.named import POLICIES, make_policy
from coe.scheduling.policy import (
    IDLE,
    Batch,
    Costs,
    Decision,
    NextUse,
    Popularity,
    QueuePolicy,
    QueueView,
    Running,
)
from coe.scheduling.queues import ExpertQueues, QueuedPrompt

__all__ = [
    "IDLE",
    "POLICIES",
    "Batch",
    "Costs",
    "Decision",
    "ExpertQueues",
    "Exponential",
    "LearnedCosts",
    "Line",
    "NextUse",
    "Popularity",
    "QueuePolicy",
    "QueueView",
    "QueuedPrompt",
    "Running",
    "make_policy",
]
