from collections.abc import Sequence

import numpy as np

from curation.decisions import RecordSet
from curation.dedup.exact import exact_keys
from curation.dedup.minhash import (
    MinHashSettings,
    band_hashes,
    find_near_duplicates,
    find_near_duplicates_indexed,
    signature_low16,
    signatures,
)
from curation.dedup.reference import Hashes, ReferenceIndex, SketchBatch

CHOSEN = MinHashSettings(threshold=0.5, shingle_length=1, num_bands=150, rows_per_band=1)


class Remembered:
    """A past in plain arrays, and which texts were read of it."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.sketches = signatures(texts, CHOSEN)
        self.asked: list[int] = []

    def exact_matches(self, keys: Hashes) -> RecordSet:
        mine = exact_keys(self.texts).tolist()
        rows = [row for row, key in enumerate(mine) if key in keys.tolist()]
        return RecordSet([f"old-{row}" for row in rows], [self.texts[row] for row in rows], [1] * len(rows))

    def candidates(self, hashes: Hashes) -> SketchBatch:
        mine = band_hashes(self.sketches, CHOSEN)
        rows = np.flatnonzero([(set(one) - {0}) & set(hashes.ravel().tolist()) != set() for one in mine.tolist()])

        def read(places: np.ndarray) -> list[str]:
            self.asked += rows[places].tolist()
            return [self.texts[row] for row in rows[places]]

        return SketchBatch(
            [f"old-{row}" for row in rows], [1] * len(rows), signature_low16(self.sketches)[rows], mine[rows], read
        )


def test_any_past_answers_as_its_texts_do_and_each_is_read_once_at_most() -> None:
    old = ["a b c d", "", "a b c e", "p q r s", "a x y z"]
    new = ["a b c d f", "p q r s", "d a b c", "nothing of it", "!", "a b c d f g"]
    past = Remembered(old)
    held: ReferenceIndex = past
    near, found = find_near_duplicates_indexed(new, held.candidates, CHOSEN)
    assert near.ids == ["old-0", "old-2", "old-3", "old-4"]
    assert [near.ids[keeper] if keeper >= 0 else None for keeper in found.duplicate_of] == [
        *("old-0", "old-3", "old-0", None, None, "old-0")
    ]
    whole = find_near_duplicates(new, old, CHOSEN)
    assert found.similarity.tolist()[:3] == whole.similarity.tolist()[:3] == [4 / 5, 1, 1]
    assert np.array_equal(found.estimated, whole.estimated, equal_nan=True)
    assert sorted(past.asked) == [0, 3]
    assert held.exact_matches(exact_keys(["P  q r S"])).texts == ["p q r s"]


def test_a_past_that_shares_nothing_leaves_the_texts_among_themselves() -> None:
    past = Remembered(["p q r s"])
    near, found = find_near_duplicates_indexed(["a b c", "a b c"], past.candidates, CHOSEN)
    assert (near.ids, found.duplicate_of.tolist(), past.asked) == ([], [-1, 0], [])
