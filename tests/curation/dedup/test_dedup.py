import pytest

from curation.decisions import EMPTY_RECORDS, RecordSet
from curation.dedup.dedup import find_duplicates
from curation.dedup.minhash import MinHashSettings
from tests.curation.dedup.test_reference import SETTINGS, InMemoryIndex

OLD = ["a b c d", "p q r s", "x y z"]
KNOWN = RecordSet([f"old-{row}" for row in range(len(OLD))], OLD, [1] * len(OLD))


def _records(*texts: str) -> RecordSet:
    return RecordSet([f"new-{row}" for row in range(len(texts))], texts, [2] * len(texts))


@pytest.mark.parametrize("stage", ["exact", "human_overlap", "minhash"])
def test_texts_and_their_sketches_give_the_same_decisions(stage: str) -> None:
    records = _records("A B  c D", "p q r t", "new words", "new words", "a b c d e")
    by_texts = find_duplicates(stage, records, KNOWN, SETTINGS)
    assert find_duplicates(stage, records, InMemoryIndex(OLD), SETTINGS) == by_texts
    duplicates = {decision.id: decision.duplicate_of for decision in by_texts if not decision.kept}
    assert (
        duplicates
        == {
            "exact": {"new-0": "old-0", "new-3": "new-2"},
            "human_overlap": {"new-0": "old-0", "new-1": "old-1", "new-4": "old-0"},
            "minhash": {"new-0": "old-0", "new-1": "old-1", "new-3": "new-2", "new-4": "old-0"},
        }[stage]
    )


@pytest.mark.parametrize("stage", ["exact", "human_overlap", "minhash"])
def test_without_known_records_texts_are_compared_with_each_other(stage: str) -> None:
    decisions = find_duplicates(stage, _records("a b c", "a b c"), EMPTY_RECORDS, MinHashSettings())
    assert [decision.kept for decision in decisions] == [True, stage == "human_overlap"]
