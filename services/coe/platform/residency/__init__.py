"""Which expert is where, as a published view in Redis. Never the authority: the memory-tier manager is.

Keys, all with values of the messages of protos/coe/v1:

| key | type | content |
|---|---|---|
| `coe:epochs` | sorted set | node -> its newest epoch |
| `coe:node:{<node>}:<epoch>` | hash | `expert:<id>` -> ExpertResidency, `tier:<number>` -> TierUsage |
| `coe:workers` | set | names of workers |
| `coe:queues:{<worker>}` | hash | `node` -> its node, `expert:<id>` -> prompts waiting or running, |
| | | `partitions` -> `<since, ms>:<numbers>`, its partitions of the assignments topic |

The hashes live for 15 s beyond their publisher's last sign of life. An epoch is one life of a node's memory-tier
manager: while the newest lives, a publisher of an older epoch writes to a key that nobody reads. Redis may lose
everything at any time: publishers notice within 5 s and write all again.
"""

from coe.platform.residency.publisher import ResidencyPublisher
from coe.platform.residency.reader import ResidencyReader
from coe.platform.residency.view import Claim, ClusterView, NodeView

__all__ = ["Claim", "ClusterView", "NodeView", "ResidencyPublisher", "ResidencyReader"]
