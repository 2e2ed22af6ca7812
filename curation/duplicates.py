"""The one answer that every search for duplicates gives: for each row, who already says it, and how surely.

Rows are numbered over the reference first and the new texts after it, so the earlier one is always the
keeper. A row goes only because of a keeper that it was directly compared with and that itself stays.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Duplicates:
    """One entry a new text."""

    keeper: NDArray[np.int64]
    """Row of the keeper over reference and new texts together; -1 where the text stays."""
    similarity: NDArray[np.float64]
    """Verified similarity to the keeper, or to the nearest kept text it was verified against; NaN where there was none."""
    estimate: NDArray[np.float64]
    """The sketch's estimate of it, where a sketch was used; NaN elsewhere."""
    masked: int = 0
    """Shingles that were left out of the comparison because a large share of the texts has them."""

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Whether each new text stays."""
        return self.keeper < 0

    @classmethod
    def none(cls, rows: int) -> "Duplicates":
        """An answer for `rows` texts, all of which stay so far; to be filled in."""
        return cls(np.full(rows, -1, np.int64), np.full(rows, np.nan), np.full(rows, np.nan))
