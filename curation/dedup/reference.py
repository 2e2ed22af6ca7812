"""Types of a reference index: texts that were sketched before and are compared without being read.

The storage of the sketches is left to the implementation. A lookup returns the texts that share a key or a band hash
with the candidates, so its cost grows with the number of matches and not with the size of the index.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from curation.decisions import RecordSet
from curation.dedup.kernels.types import Hashes, Indices, Signatures


@dataclass(frozen=True)
class SketchBatch:
    """Reference texts that share a band with a candidate, in the order in which they were added."""

    ids: Sequence[str]
    generations: Sequence[int]
    signature_low16: Signatures
    """Lower 16 bits of each signature value, shape (texts, bands x rows)."""
    band_hashes: Hashes
    """Shape (texts, bands)."""
    read_texts: Callable[[Indices], Sequence[str]]
    """Read the texts at these positions; the only expensive operation."""


class ReferenceIndex(Protocol):
    """All texts that were sketched before."""

    def exact_matches(self, keys: Hashes) -> RecordSet:
        """Return the texts with one of these exact keys, shape (texts, 2)."""
        ...

    def candidates(self, hashes: Hashes) -> SketchBatch:
        """Return the texts that share a band with one of these, shape (texts, bands).

        Of a bucket with many texts, the first and the last are enough.
        """
        ...
