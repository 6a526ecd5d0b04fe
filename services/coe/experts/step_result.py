"""What a step of the graph says of the tokens that may come next."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from coe.experts.step_plan import Int64

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class StepResult:
    """Rows of the drawing chunks (Chunk.rows): the id of the highest logit, and that logit, [rows]; all logits [rows,
    V] when one of the sequences asked for more than that."""

    likeliest: Int64
    peaks: Floats
    logits: Floats | None = None

    @classmethod
    def of_logits(cls, logits: Floats) -> Self:
        # One pass over logits that are megabytes: what is no number comes out as the likeliest.
        likeliest = logits.argmax(axis=1)
        return cls(likeliest, logits[np.arange(len(logits)), likeliest], logits)

    def no_numbers(self) -> list[int]:
        """Rows that nothing can be drawn from."""
        bad = ~np.isfinite(self.peaks)
        if self.logits is not None:
            # A soft cap makes a number of what is none: the same one for every token.
            alike = (self.logits[:, 0] == self.peaks) & (self.logits[:, -1] == self.peaks)
            for row in np.flatnonzero(alike & ~bad).tolist():
                bad[row] = self.logits[row].min() == self.peaks[row]
        return np.flatnonzero(bad).tolist()
