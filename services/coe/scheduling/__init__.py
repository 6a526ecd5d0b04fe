"""Scheduling policies: pure, shared by the worker's run loop and the simulator, named in settings.

| name | order | batches | a copy and its run | prefetch | eviction |
|---|---|---|---|---|---|
| `fifo` | arrival | one prompt | in turn | no | first in, first out |
| `samba-coe` | arrival | one prompt | in turn | no | least recently used |
| `lru` | arrival | neighbours of one expert | together | no | least recently used |
| `coserve` | groups by expert, as formed | closed | in turn | no | lowest probability |
| `lookahead` | groups by expert, ageing bound | continuous | together | next two | farthest use, probability, LRU |
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
