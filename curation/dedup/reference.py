"""Texts that were sketched before: what can be asked of them without reading them.

Who keeps the sketches is not said here. A search asks for those that share something with its own texts, so it costs what
they share and not what there is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from curation.decisions import RecordSet

Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class SketchBatch:
    """Some texts by their sketches, in the order in which they came."""

    ids: Sequence[str]
    generations: Sequence[int]
    signature_low16: NDArray[np.uint32]
    """Lower halves of their signatures, shape (texts, values)."""
    band_hashes: Hashes
    """Their band hashes, shape (texts, bands)."""
    read_texts: Callable[[NDArray[np.int64]], Sequence[str]]
    """The texts at these places, which costs the most."""


class ReferenceIndex(Protocol):
    """Every text that was sketched before."""

    def exact_matches(self, keys: Hashes) -> RecordSet:
        """Those with one of these exact keys, shape (texts, 2)."""
        ...

    def candidates(self, hashes: Hashes) -> SketchBatch:
        """Those that share a band with one of these, shape (texts, bands); of a bucket of many, the first and the last."""
        ...
