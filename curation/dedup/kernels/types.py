"""Types that the kernels exchange."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from curation.text import Normalization

Bytes: TypeAlias = NDArray[np.uint8]
Indices: TypeAlias = NDArray[np.int64]
"""Row numbers, byte offsets or counts."""
Hashes: TypeAlias = NDArray[np.uint64]
"""Shingle hashes or band hashes."""
Signatures: TypeAlias = NDArray[np.uint32]
"""MinHash values, or the multipliers and offsets of the permutations that give them."""
Similarities: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Shingling:
    """What a shingle is."""

    by_word: bool
    """Whether it is a run of tokens, or of characters of the tokens."""
    length: int
    """Tokens or characters in it."""
    normalization: Normalization = "text"
