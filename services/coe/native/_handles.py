"""Lease handles: what a graph's `expert_slot` input holds."""

SLOT_BITS = 16


def lease_handle(slot: int, generation: int) -> int:
    """The int64 that identifies one generation of a slot: `generation << 16 | slot`."""
    if not 0 <= slot < 1 << SLOT_BITS:
        raise ValueError(f"slot {slot} is not in [0, {1 << SLOT_BITS})")
    if not 0 <= generation < 1 << (63 - SLOT_BITS):
        raise ValueError(f"generation {generation} does not fit a lease handle")
    return generation << SLOT_BITS | slot


def batch_invariant(handle: int) -> int:
    """The same lease for a batch-invariant run: each token's bits are independent of the rest of the batch.

    On processors with AMX, this makes prefill slower.
    """
    return handle if handle < 0 else handle - (1 << 63)
