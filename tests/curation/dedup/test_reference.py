from collections.abc import Sequence

import numpy as np

from curation.decisions import RecordSet
from curation.dedup.exact import exact_keys
from curation.dedup.kernels.types import Hashes
from curation.dedup.minhash import (
    MinHashSettings,
    band_hashes,
    find_near_duplicates,
    find_near_duplicates_indexed,
    signature_low16,
    signatures,
)
from curation.dedup.reference import ReferenceIndex, SketchBatch

SETTINGS = MinHashSettings(threshold=0.5, shingle_length=1, num_bands=150, rows_per_band=1)


class InMemoryIndex:
    """A reference index in plain arrays that records which texts were read."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.sketches = signatures(texts, SETTINGS)
        self.read_rows: list[int] = []

    def exact_matches(self, keys: Hashes) -> RecordSet:
        own_keys = exact_keys(self.texts).tolist()
        rows = [row for row, key in enumerate(own_keys) if key in keys.tolist()]
        return RecordSet([f"old-{row}" for row in rows], [self.texts[row] for row in rows], [1] * len(rows))

    def candidates(self, hashes: Hashes) -> SketchBatch:
        own_bands = band_hashes(self.sketches, SETTINGS)
        rows = np.flatnonzero(
            [(set(bands) - {0}) & set(hashes.ravel().tolist()) != set() for bands in own_bands.tolist()]
        )

        def read(places: np.ndarray) -> list[str]:
            self.read_rows += rows[places].tolist()
            return [self.texts[row] for row in rows[places]]

        return SketchBatch(
            [f"old-{row}" for row in rows], [1] * len(rows), signature_low16(self.sketches)[rows], own_bands[rows], read
        )


def test_an_index_gives_the_same_matches_as_its_texts_and_reads_each_once_at_most() -> None:
    old = ["a b c d", "", "a b c e", "p q r s", "a x y z"]
    new = ["a b c d f", "p q r s", "d a b c", "nothing of it", "!", "a b c d f g"]
    index = InMemoryIndex(old)
    reference: ReferenceIndex = index
    candidates, found = find_near_duplicates_indexed(new, reference.candidates, SETTINGS)
    assert candidates.ids == ["old-0", "old-2", "old-3", "old-4"]
    assert [candidates.ids[row] if row >= 0 else None for row in found.duplicate_of] == [
        *("old-0", "old-3", "old-0", None, None, "old-0")
    ]
    by_texts = find_near_duplicates(new, old, SETTINGS)
    assert found.similarity.tolist()[:3] == by_texts.similarity.tolist()[:3] == [4 / 5, 1, 1]
    assert np.array_equal(found.estimated, by_texts.estimated, equal_nan=True)
    assert sorted(index.read_rows) == [0, 3]
    assert reference.exact_matches(exact_keys(["P  q r S"])).text_list == ["p q r s"]


def test_an_index_without_candidates_leaves_the_texts_compared_with_each_other() -> None:
    index = InMemoryIndex(["p q r s"])
    candidates, found = find_near_duplicates_indexed(["a b c", "a b c"], index.candidates, SETTINGS)
    assert (candidates.ids, found.duplicate_of.tolist(), index.read_rows) == ([], [-1, 0], [])
