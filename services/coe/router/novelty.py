"""What is strange about a text itself, whatever it is about: its spelling, its languages, its phrases. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coe.router import phrases, spelling, switching
from coe.router.phrases import Phrases
from coe.router.spelling import Spelling

FEATURES = (*spelling.FEATURES, *switching.FEATURES, *phrases.FEATURES)
# Of a long text the start and the end are read: what was appended to a prompt shows there.
START, END = 280, 120


@dataclass(frozen=True, slots=True, eq=False)
class Novelty:
    """What training texts showed of ordinary spelling and of phrases that take a model over."""

    spelling: Spelling
    phrases: Phrases

    def features(self, text: str) -> NDArray[np.float32]:
        """The values that FEATURES names."""
        short = text if len(text) <= START + END else f"{text[:START]} {text[-END:]}"
        found = [*self.spelling.features(short), *switching.features(short), *self.phrases.features(text)]
        return np.array(found, np.float32)
