"""Array types that the kernels exchange."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Bytes: TypeAlias = NDArray[np.uint8]
Indices: TypeAlias = NDArray[np.int64]
"""Row numbers, byte offsets or counts."""
Hashes: TypeAlias = NDArray[np.uint64]
"""Shingle hashes or band hashes."""
Signatures: TypeAlias = NDArray[np.uint32]
"""MinHash values, or the multipliers and offsets of the permutations that give them."""
Similarities: TypeAlias = NDArray[np.float64]
