"""Publishes and reads where each expert is, through Redis. Only a view: the memory-tier manager is the authority.

Keys, and values, which are messages of protos/coe/v1 where named:

| key | type | content |
|---|---|---|
| `coe:epochs` | sorted set | node -> newest epoch |
| `coe:node:{<node>}:<epoch>` | hash | `expert:<id>` -> ExpertResidency, `tier:<number>` -> TierUsage |
| `coe:workers` | set | worker names |
| `coe:queues:{<worker>}` | hash | `node` -> the worker's node, `expert:<id>` -> prompts waiting or running, |
| | | `partitions` -> `<since, ms>:<numbers>`, the worker's partitions of the assignments topic |

The hashes expire 15 s after their publisher's last heartbeat. An epoch is one run of a node's memory-tier manager;
while the newest is alive, a publisher of an older epoch writes to a key that is never read. Redis may lose everything
at any time: publishers notice within 5 s and write everything again.
"""

from coe.platform.residency.publisher import ResidencyPublisher
from coe.platform.residency.reader import ResidencyReader
from coe.platform.residency.view import Claim, ClusterView, NodeView

__all__ = ["Claim", "ClusterView", "NodeView", "ResidencyPublisher", "ResidencyReader"]
