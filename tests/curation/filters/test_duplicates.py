import pytest

from curation.decisions import EMPTY_RECORDS, FilterResult, RecordSet
from curation.dedup.minhash import MinHashSettings
from curation.filters.base import Filter, FilterContext
from curation.filters.duplicates import ExactFilter, HumanOverlapFilter, MinHashFilter
from tests.curation.dedup.test_reference import SETTINGS, InMemoryIndex

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
    records = _records("A B  c D", "p q r t", "new words", "new words", "a b c d e")
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
