"""Duplicates of reference records: exact and near, found by an index."""

from collections.abc import Sequence

import numpy as np
import pytest

from curation.decisions import EMPTY_RECORDS, FilterResult, RecordSet
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
from curation.filters.base import Filter, FilterContext
from curation.filters.duplicates import ExactFilter, HumanOverlapFilter, MinHashFilter

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
    assert reference.exact_matches(exact_keys([" p q r s "])).text_list == ["p q r s"]


def test_an_index_without_candidates_leaves_the_texts_compared_with_each_other() -> None:
    index = InMemoryIndex(["p q r s"])
    candidates, found = find_near_duplicates_indexed(["a b c", "a b c"], index.candidates, SETTINGS)
    assert (candidates.ids, found.duplicate_of.tolist(), index.read_rows) == ([], [-1, 0], [])


_KNOWN_TEXTS = ["a b c d", "p q r s", "x y z"]
_KNOWN = RecordSet([f"old-{row}" for row in range(len(_KNOWN_TEXTS))], _KNOWN_TEXTS, [1] * len(_KNOWN_TEXTS))
_FILTERS: list[Filter] = [ExactFilter(), HumanOverlapFilter(SETTINGS), MinHashFilter(SETTINGS)]
_DROPPED = {
    "exact": {"new-0": "old-0", "new-3": "new-2"},
    "human_overlap": {"new-0": "old-0", "new-1": "old-1", "new-4": "old-0"},
    "minhash": {"new-0": "old-0", "new-1": "old-1", "new-3": "new-2", "new-4": "old-0"},
}


def _records(*texts: str) -> RecordSet:
    return RecordSet([f"new-{row}" for row in range(len(texts))], texts, [2] * len(texts))


def _dropped(records: RecordSet, result: FilterResult) -> dict[str, str]:
    pairs = zip(records.ids.to_pylist(), result.duplicate_of.to_pylist(), strict=True)
    return {record: kept for record, kept in pairs if kept is not None}


@pytest.mark.parametrize("duplicates", _FILTERS, ids=lambda each: each.name)
def test_known_texts_and_an_index_of_them_give_the_same_result(duplicates: Filter) -> None:
    records = _records(" a b c d ", "p q r t", "new words", "new words", "a b c d e")
    by_texts = duplicates.apply(records, FilterContext(human_train=_KNOWN, survivors=_KNOWN))
    index = InMemoryIndex(_KNOWN_TEXTS)
    assert duplicates.apply(records, FilterContext(human_index=index, survivor_index=index)) == by_texts
    assert _dropped(records, by_texts) == _DROPPED[duplicates.name]


@pytest.mark.parametrize(
    "duplicates",
    [ExactFilter(), HumanOverlapFilter(MinHashSettings()), MinHashFilter(MinHashSettings())],
    ids=lambda each: each.name,
)
def test_without_known_texts_only_new_ones_duplicate_each_other(duplicates: Filter) -> None:
    result = duplicates.apply(_records("a b c", "a b c"), FilterContext())
    assert result.kept.tolist() == [True, duplicates.name == "human_overlap"]
    assert len(duplicates.apply(EMPTY_RECORDS, FilterContext())) == 0
