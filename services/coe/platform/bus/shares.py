"""Which members of a group get which partitions: even shares, and as few moves as those allow. Pure.

A member that comes takes its share and nothing else moves; of one that goes only what it had moves. Which partitions
move is decided by a weight of member and partition, so that a member that comes back tends to get what it had.
"""

import hashlib
from collections.abc import Mapping, Sequence


def shared_out(partitions: Sequence[int], members: Mapping[str, str], before: Mapping[int, str]) -> dict[int, str]:
    """Partition -> member. Numbers of partitions differ by one at most.

    `members`: id -> name, by which weights are drawn; not empty. `before`: who had what, as far as is known.
    """
    weight = {
        (member, partition): _weight(name, partition) for member, name in members.items() for partition in partitions
    }
    had: dict[str, list[int]] = {member: [] for member in members}
    for partition in partitions:
        if (owner := before.get(partition, "")) in had:
            had[owner].append(partition)
    least, more = divmod(len(partitions), len(members))
    # Those who have most have one more than others, if that does not come out even.
    larger = sorted(members, key=lambda member: (-len(had[member]), member))[:more]
    room = {member: least + (member in larger) for member in members}
    owners: dict[int, str] = {}
    for member, partitions_had in had.items():
        dearest = sorted(partitions_had, key=lambda partition: -weight[member, partition])
        for partition in dearest[: room[member]]:
            owners[partition] = member
            room[member] -= 1
    free = [(weight[member, partition], member, partition) for member, partition in weight if partition not in owners]
    for _, member, partition in sorted(free, reverse=True):
        if room[member] and partition not in owners:
            owners[partition] = member
            room[member] -= 1
    return owners


def _weight(name: str, partition: int) -> int:
    text = f"{partition} {name}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
