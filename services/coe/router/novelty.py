"""Features that show how unusual a text is, whatever its topic: spelling, language switches, injected phrases. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coe.router import phrases, spelling, switching
from coe.router.phrases import Phrases
from coe.router.spelling import Spelling

FEATURES = (*spelling.FEATURES, *switching.FEATURES, *phrases.FEATURES)
# Only the start and the end of a long text are read; the end shows what was appended to a prompt.
START, END = 280, 120


@dataclass(frozen=True, slots=True, eq=False)
class Novelty:
    """What was learnt about ordinary spelling and about prompt-injection phrases."""

    spelling: Spelling
    phrases: Phrases

    def features(self, text: str) -> NDArray[np.float32]:
        """The features named by FEATURES."""
        short = text if len(text) <= START + END else f"{text[:START]} {text[-END:]}"
        found = [*self.spelling.features(short), *switching.features(short), *self.phrases.features(text)]
        return np.array(found, np.float32)
