"""Tracks which offsets of a partition are done, in flight or still to come. Pure: no I/O, no clock.

Records are taken in order and completed in any order. Kafka stores one committed offset (everything below it is done)
and up to 4096 bytes of metadata with it. The metadata covers the offsets from the committed one to the last one handed
out: which are done, and how often the others had been handed out before. After a crash the next owner repeats exactly
the records that were not done.

Encoding: a version, then base64 of runs (length, state), both varints. State 0 means done; n + 1 means handed out, n
times before that. Gaps (transaction markers, compacted records) count as done.
"""

import binascii
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence

# Maximum number of records in flight per partition, and maximum distance between the oldest and the newest offset.
# Together they limit the metadata to 2 * 400 + 1 runs of at most 3 bytes: about 3200 characters of base64.
MAX_IN_FLIGHT = 400
MAX_WINDOW = 1 << 14
METADATA_LIMIT = 4096

_VERSION = "coe1:"
_MAX_ATTEMPT = 100


class OffsetLedger:
    """The offsets of one partition between hand-out and completion."""

    def __init__(self, committed: int = 0, metadata: str = "") -> None:
        """Continues from the committed state. Metadata written by other programs is ignored."""
        # The lowest offset that may come next.
        self.position = committed
        # Handed out by this owner: offset -> attempt.
        self._in_flight: dict[int, int] = {}
        # Handed out by an earlier owner and not done: offset -> that owner's attempt.
        self._inherited: dict[int, int] = {}
        # End of the offsets covered by the metadata.
        self._known_until = committed
        for length, state in _decode(metadata):
            if state:
                offsets = range(self._known_until, self._known_until + length)
                self._inherited.update(dict.fromkeys(offsets, state - 1))
            self._known_until += length

    @property
    def committed(self) -> int:
        """The lowest offset that is not done."""
        # Both are filled in order, so the first offset is the lowest.
        oldest = next(iter(self._in_flight), None)
        left = next(iter(self._inherited), None)
        if oldest is None or left is None:
            lowest = oldest if left is None else left
            return max(self.position, self._known_until) if lowest is None else lowest
        return min(oldest, left)

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    @property
    def inherited(self) -> tuple[int, ...]:
        """Offsets that an earlier owner handed out and that have not been read again yet."""
        return tuple(self._inherited)

    @property
    def full(self) -> bool:
        """Whether nothing more may be taken until a record is completed."""
        return len(self._in_flight) >= MAX_IN_FLIGHT or (
            bool(self._in_flight) and self.position - self.committed >= MAX_WINDOW
        )

    def take(self, offset: int) -> bool:
        """Hands out the record at `offset`. Returns False if it is already done or in flight and must be skipped."""
        if offset < self.position:
            return False
        self.position = offset + 1
        # Records come in order, so earlier offsets that have not come no longer exist.
        if self._inherited:
            for gone in [known for known in self._inherited if known < offset]:
                del self._inherited[gone]
        if offset in self._inherited:
            self._in_flight[offset] = min(self._inherited.pop(offset) + 1, _MAX_ATTEMPT)
            return True
        if offset < self._known_until:
            return False
        self._in_flight[offset] = 0
        return True

    def attempt(self, offset: int) -> int:
        """How often earlier owners had handed out the offset, as far as that was committed."""
        return self._in_flight.get(offset, 0)

    def holds(self, offset: int) -> bool:
        """Whether the offset is in flight."""
        return offset in self._in_flight

    def is_done(self, offset: int) -> bool:
        """Whether the offset was completed, by this or an earlier owner."""
        known = max(self.position, self._known_until)
        return offset < known and offset not in self._in_flight and offset not in self._inherited

    def complete(self, offset: int) -> None:
        """Marks the offset done. Raises KeyError if it is not in flight."""
        del self._in_flight[offset]

    def reconcile(self, committed: "OffsetLedger") -> list[int]:
        """Continues from what is committed now. Returns the offsets in flight that are done there."""
        taken_over = [offset for offset in self._in_flight if committed.is_done(offset)]
        for offset in taken_over:
            del self._in_flight[offset]
        self._known_until = committed._known_until
        self._inherited = {
            offset: attempt
            for offset, attempt in committed._inherited.items()
            if offset >= self.position and offset not in self._in_flight
        }
        return taken_over

    def metadata(self) -> str:
        """The metadata to commit with `committed`; empty if nothing was handed out beyond it."""
        return self.after(())[1]

    def after(self, ended: Sequence[int]) -> tuple[int, str]:
        """The offset and metadata to commit once these in-flight offsets are done too. Does not change the ledger."""
        left = self._inherited | self._in_flight
        for offset in ended:
            del left[offset]
        states = {offset: attempt + 1 for offset, attempt in left.items()}
        end = max(self.position, self._known_until)
        low = min(states, default=end)
        return low, _encode(_runs(states, low, end))


def _runs(states: dict[int, int], low: int, high: int) -> Iterator[tuple[int, int]]:
    """Yields runs (length, state) from `low` to `high`. Offsets without a state have 0."""
    begin, state = low, 0
    end = low  # end of the current run
    for offset in sorted(states):
        if offset == end and states[offset] == state:
            end += 1
            continue
        if end > begin:
            yield end - begin, state
        if offset > end:
            yield offset - end, 0
        begin, state, end = offset, states[offset], offset + 1
    if end > begin:
        yield end - begin, state
    if end < high:
        yield high - end, 0


def _encode(runs: Iterator[tuple[int, int]]) -> str:
    """Encodes the numbers as LEB128 varints, as protobuf does."""
    data = bytearray()
    for run in runs:
        for number in run:
            while number > 0x7F:
                data.append(number & 0x7F | 0x80)
                number >>= 7
            data.append(number)
    return _VERSION + b64encode(data).decode() if data else ""


def _decode(metadata: str) -> list[tuple[int, int]]:
    if not metadata.startswith(_VERSION):
        return []
    try:
        numbers = list(_numbers(b64decode(metadata.removeprefix(_VERSION), validate=True)))
    except (binascii.Error, ValueError):
        return []
    return list(zip(numbers[::2], numbers[1::2], strict=False))


def _numbers(data: bytes) -> Iterator[int]:
    number, shift = 0, 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            yield number
            number, shift = 0, 0
