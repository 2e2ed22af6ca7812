import pytest

from curation.decisions import EMPTY_RECORDS, RecordSet
from curation.dedup.dedup import find_duplicates
from curation.dedup.minhash import MinHashSettings
from tests.curation.dedup.test_reference import CHOSEN, Remembered

OLD = ["a b c d", "p q r s", "x y z"]
KNOWN = RecordSet([f"old-{row}" for row in range(len(OLD))], OLD, [1] * len(OLD))


def _alive(*texts: str) -> RecordSet:
    return RecordSet([f"new-{row}" for row in range(len(texts))], texts, [2] * len(texts))


@pytest.mark.parametrize("stage", ["exact", "human_overlap", "minhash"])
def test_texts_and_their_sketches_decide_alike(stage: str) -> None:
    records = _alive("A B  c D", "p q r t", "new words", "new words", "a b c d e")
    whole = find_duplicates(stage, records, KNOWN, CHOSEN)
    assert find_duplicates(stage, records, Remembered(OLD), CHOSEN) == whole
    gone = {decision.id: decision.duplicate_of for decision in whole if not decision.kept}
    assert (
        gone
        == {
            "exact": {"new-0": "old-0", "new-3": "new-2"},
            "human_overlap": {"new-0": "old-0", "new-1": "old-1", "new-4": "old-0"},
            "minhash": {"new-0": "old-0", "new-1": "old-1", "new-3": "new-2", "new-4": "old-0"},
        }[stage]
    )


@pytest.mark.parametrize("stage", ["exact", "human_overlap", "minhash"])
def test_without_anybody_known_only_the_texts_repeat_each_other(stage: str) -> None:
    made = find_duplicates(stage, _alive("a b c", "a b c"), EMPTY_RECORDS, MinHashSettings())
    assert [decision.kept for decision in made] == [True, stage == "human_overlap"]
