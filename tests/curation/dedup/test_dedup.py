import pytest

from curation.decisions import NOBODY, Known
from curation.dedup.dedup import find_repeats
from curation.dedup.minhash import MinHashSettings
from tests.curation.dedup.test_reference import CHOSEN, Remembered

OLD = ["a b c d", "p q r s", "x y z"]
KNOWN = Known([f"old-{row}" for row in range(len(OLD))], OLD, [1] * len(OLD))


def _alive(*texts: str) -> Known:
    return Known([f"new-{row}" for row in range(len(texts))], texts, [2] * len(texts))


@pytest.mark.parametrize("stage", ["exact", "copying", "minhash"])
def test_texts_and_their_sketches_decide_alike(stage: str) -> None:
    alive = _alive("A B  c D", "p q r t", "new words", "new words", "a b c d e")
    whole = find_repeats(stage, alive, KNOWN, CHOSEN)
    assert find_repeats(stage, alive, Remembered(OLD), CHOSEN) == whole
    gone = {decision.id: decision.keeper for decision in whole if not decision.kept}
    assert (
        gone
        == {
            "exact": {"new-0": "old-0", "new-3": "new-2"},
            "copying": {"new-0": "old-0", "new-1": "old-1", "new-4": "old-0"},
            "minhash": {"new-0": "old-0", "new-1": "old-1", "new-3": "new-2", "new-4": "old-0"},
        }[stage]
    )


@pytest.mark.parametrize("stage", ["exact", "copying", "minhash"])
def test_without_anybody_known_only_the_texts_repeat_each_other(stage: str) -> None:
    made = find_repeats(stage, _alive("a b c", "a b c"), NOBODY, MinHashSettings())
    assert [decision.kept for decision in made] == [True, stage == "copying"]
