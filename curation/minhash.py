"""Near-duplicates: pairs whose shingles overlap, found by MinHash and LSH, verified by exact Jaccard.

Sketches are datasketch's MinHash (scheme affine32) over 32-bit shingle hashes. Bands and rows are chosen
for recall; precision comes from the verification, so no pair is called duplicate on an estimate. Texts
without a word have no shingles and are never near-duplicates.

Broder 1997, "On the resemblance and containment of documents".
"""

import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from curation.duplicates import Duplicates
from curation.text import shingles

_REMEMBERED = 100_000
"""Texts whose sketches are kept in memory: the reserve and earlier survivors come by in every generation."""


class MinHashSettings(BaseModel):
    """`[curate.minhash]`: what counts as saying nearly the same."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(0.7, gt=0, le=1, description="Jaccard similarity at or above which a text repeats another")
    shingle_words: int = Field(3, ge=1, le=9, description="words in a shingle: 2 or 3 for short texts, 5 for documents")
    bands: int = Field(25, ge=1, description="bands of a signature; two texts are compared if one band agrees")
    rows: int = Field(5, ge=1, description="values in a band; bands x rows is the length of a signature")


def find_near_duplicates(
    texts: Sequence[str], reference: Sequence[str], settings: MinHashSettings, *, among_texts: bool = True
) -> Duplicates:
    """For each text, the most similar kept text of `reference` or earlier in `texts`, at or above the threshold.

    Without `among_texts`, of `reference` alone.
    """
    everything = (*reference, *texts)
    hashes = [_shingle_hashes(text, settings.shingle_words) for text in everything]
    sketches = [_sketch(text, settings.shingle_words, settings.bands * settings.rows) for text in everything]
    index = MinHashLSH(num_perm=settings.bands * settings.rows, params=(settings.bands, settings.rows))
    for row, sketch in enumerate(sketches[: len(reference)]):
        if sketch is not None:
            index.insert(row, sketch, check_duplication=False)
    answer = Duplicates.none(len(texts))
    for place in range(len(texts)):
        row = len(reference) + place
        sketch = sketches[row]
        if sketch is None:
            continue
        best, similarity = -1, 0.0
        for other in sorted(index.query(sketch)):
            if (found := _jaccard(hashes[row], hashes[other])) > similarity:
                best, similarity = other, found
        if best >= 0:
            answer.similarity[place] = similarity
            answer.estimate[place] = sketch.jaccard(sketches[best])
        if best >= 0 and similarity >= settings.threshold:
            answer.keeper[place] = best
        elif among_texts:
            index.insert(row, sketch, check_duplication=False)
    return answer


def candidate_probability(similarity: float, settings: MinHashSettings) -> float:
    """Probability that a pair of this similarity is compared at all: 1 - (1 - s^rows)^bands."""
    return 1 - (1 - similarity**settings.rows) ** settings.bands


@lru_cache(maxsize=_REMEMBERED)
def _shingle_hashes(text: str, length: int) -> NDArray[np.uint32]:
    found = {zlib.crc32(shingle.encode("utf-8", "surrogatepass")) for shingle in shingles(text, length)}
    return np.sort(np.fromiter(found, np.uint32, len(found)))


@lru_cache(maxsize=_REMEMBERED)
def _sketch(text: str, shingle_words: int, permutations: int) -> MinHash | None:
    hashes = _shingle_hashes(text, shingle_words)
    if not len(hashes):
        return None
    sketch = MinHash(num_perm=permutations, seed=1, scheme="affine32", hashfunc=_as_it_is)
    sketch.update_batch([hashes])
    return sketch


def _as_it_is(hashes: NDArray[np.uint32]) -> NDArray[np.uint32]:
    return hashes


def _jaccard(left: NDArray[np.uint32], right: NDArray[np.uint32]) -> float:
    shared = len(np.intersect1d(left, right, assume_unique=True))
    return shared / (len(left) + len(right) - shared)
