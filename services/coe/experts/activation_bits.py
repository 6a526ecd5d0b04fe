"""The precision of activations that are multiplied with quantised weights (ADR 18)."""

from typing import Literal

from coe.native import instruction_set

ActivationBits = Literal[16, 8]


def used(wanted: ActivationBits) -> ActivationBits:
    """The precision actually used: with AMX, 16 bits are as fast as 8 and more accurate. (The same holds with AVX2 for
    8-bit weights, whose activations stay at 16 bits.)
    """
    return 16 if instruction_set() == "amx" else wanted
