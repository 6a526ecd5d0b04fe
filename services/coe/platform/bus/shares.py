"""Assigns partitions to the members of a group: even shares with as few moves as possible. Pure.

When a member joins, only its share moves; when one leaves, only what it had. A weight per member and partition decides
which partitions move, so that a returning member tends to get back what it had.
"""

import hashlib
from collections.abc import Mapping, Sequence


def shared_out(partitions: Sequence[int], members: Mapping[str, str], before: Mapping[int, str]) -> dict[int, str]:
    """Maps partitions to members. The sizes of shares differ by at most one.

    `members`: id -> name, from which the weights are derived; must not be empty. `before`: the previous owners, as far
    as they are known.
    """
    weight = {
        (member, partition): _weight(name, partition) for member, name in members.items() for partition in partitions
    }
    had: dict[str, list[int]] = {member: [] for member in members}
    for partition in partitions:
        if (owner := before.get(partition, "")) in had:
            had[owner].append(partition)
    least, more = divmod(len(partitions), len(members))
    # If shares cannot be equal, the members that had most get one more.
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
