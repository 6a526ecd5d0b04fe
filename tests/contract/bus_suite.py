"""What every bus must do. The same tests run on the in-memory bus and on real Kafka.

A binding gives the fixture `cluster` (see `Cluster`). Times only bound how long a test may wait for a condition.
"""

from contract.bus_delivery_suite import DeliverySuite
from contract.bus_message_suite import MessageSuite
from contract.bus_parallel_suite import ParallelSuite
from contract.bus_process_suite import ProcessSuite


class BusSuite(ProcessSuite, ParallelSuite, MessageSuite, DeliverySuite):
    """All promises of coe.platform.bus.api.Bus."""
