"""The outputs of one step of the graph."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from coe.experts.step_plan import Int64

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class StepResult:
    """Rows of all chunks (Chunk.rows): the id of the highest logit and that logit, [rows]; and all logits [rows, V] if
    one of the sequences needs them."""

    likeliest: Int64
    peaks: Floats
    logits: Floats | None = None

    @classmethod
    def of_logits(cls, logits: Floats) -> Self:
        # The logits are megabytes, so one pass has to do: argmax returns a NaN if there is one.
        likeliest = logits.argmax(axis=1)
        return cls(likeliest, logits[np.arange(len(logits)), likeliest], logits)

    def no_numbers(self) -> list[int]:
        """Rows with infinite or NaN logits, from which nothing can be drawn."""
        bad = ~np.isfinite(self.peaks)
        if self.logits is not None:
            # A softcap may turn non-finite logits into a finite value, the same for every token.
            alike = (self.logits[:, 0] == self.peaks) & (self.logits[:, -1] == self.peaks)
            for row in np.flatnonzero(alike & ~bad).tolist():
                bad[row] = self.logits[row].min() == self.peaks[row]
        return np.flatnonzero(bad).tolist()
