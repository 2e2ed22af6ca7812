"""The one answer that every sieve gives which looks at a text by itself: why it goes, and on which number."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Faults:
    """One entry a text."""

    reason: Sequence[str]
    """Why the text goes; empty where it stays."""
    evidence: NDArray[np.float64]
    """The number acted on; NaN where there is none."""

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Whether each text stays."""
        return np.array([not reason for reason in self.reason], bool)
