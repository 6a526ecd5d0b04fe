"""Which members of a group get which partitions: as few as possible move when one comes or goes."""

from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor


def assignors() -> tuple[type[AbstractPartitionAssignor], ...]:
    """For one consumer, in order of preference.

    aiokafka keeps what a member had on the assignor's class, so each consumer needs a class of its own. Range is
    offered too: a group may hold members of a release that knew nothing else, and takes what all of them offer.
    """
    own = type("OwnStickyAssignor", (StickyPartitionAssignor,), {"member_assignment": None})
    return (own, RangePartitionAssignor)
