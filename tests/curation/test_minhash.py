import math
import random
import zlib
from functools import cache

import numpy as np
import pytest
from datasketch import MinHash
from pydantic import ValidationError

from curation.minhash import MinHashSettings, _sketch, candidate_probability, find_near_duplicates
from curation.text import shingles

ONE_WORD = MinHashSettings(threshold=0.5, shingle_words=1, bands=60, rows=1)
"""Sets of single words, and bands enough that no pair worth comparing is missed."""


def _jaccard(left: str, right: str, length: int) -> float:
    one, other = _shingle_set(left, length), _shingle_set(right, length)
    return len(one & other) / len(one | other)


@cache
def _shingle_set(text: str, length: int) -> frozenset[str]:
    return frozenset(shingles(text, length))


def _related_texts(count: int, seed: int) -> list[str]:
    """Texts of 30 words, most of them an earlier one with some words changed."""
    dice = random.Random(seed)
    vocabulary = [f"word{number}" for number in range(400)]
    texts = [" ".join(dice.sample(vocabulary, 30))]
    while len(texts) < count:
        found = dice.choice(texts).split()
        if dice.random() < 0.25:
            found = dice.sample(vocabulary, 30)
        start = dice.randrange(30)
        for place in range(start, min(30, start + dice.choice([0, 1, 2, 3, 4, 6, 9]))):
            found[place] = dice.choice(vocabulary)
        texts.append(" ".join(found))
    return texts


def test_two_texts_by_eye() -> None:
    # Five shingles of two words each, four of them shared: 4 / 6.
    found = find_near_duplicates(
        ["the old river runs slowly east", "the old river runs slowly west"],
        [],
        MinHashSettings(threshold=0.6, shingle_words=2, bands=60, rows=1),
    )
    assert found.keeper.tolist() == [-1, 0]
    assert found.similarity[1] == 4 / 6


def test_a_similarity_at_the_threshold_is_a_duplicate_and_just_below_is_none() -> None:
    texts = ["a b c d e f g h i j", "a b c d e f g"]
    at, above = (
        find_near_duplicates(texts, [], MinHashSettings(threshold=value, shingle_words=1, bands=60, rows=1))
        for value in (0.7, 0.71)
    )
    assert at.keeper.tolist() == [-1, 0]
    assert above.keeper.tolist() == [-1, -1]
    assert above.similarity[1] == 0.7


def test_no_pair_is_called_duplicate_on_an_estimate() -> None:
    texts = _related_texts(250, seed=1)
    chosen = MinHashSettings(threshold=0.5, shingle_words=2)
    found = find_near_duplicates(texts, [], chosen)
    dropped = np.flatnonzero(~found.kept)
    assert len(dropped) > 50
    for place in dropped:
        similarity = _jaccard(texts[place], texts[found.keeper[place]], 2)
        assert similarity >= chosen.threshold
        assert found.similarity[place] == similarity


def test_the_answer_is_that_of_comparing_every_pair() -> None:
    texts = _related_texts(200, seed=2)
    thorough = MinHashSettings(threshold=0.6, shingle_words=2, bands=60, rows=2)
    reference, candidates = texts[:60], texts[60:]
    stays, keepers = list(range(60)), []
    for row in range(60, 200):
        similarity, keeper = max((_jaccard(texts[row], texts[other], 2), -other) for other in stays)
        keepers.append(-keeper if similarity >= thorough.threshold else -1)
        if keepers[-1] < 0:
            stays.append(row)
    found = find_near_duplicates(candidates, reference, thorough)
    assert found.keeper.tolist() == keepers
    assert 20 < sum(keeper >= 0 for keeper in keepers) < 130


def test_at_least_97_of_100_pairs_at_the_default_threshold_are_found() -> None:
    texts = _related_texts(160, seed=3)
    chosen = MinHashSettings()
    pairs = [(a, b) for place, a in enumerate(texts) for b in texts[:place] if _jaccard(a, b, 3) >= chosen.threshold]
    assert len(pairs) > 60
    found = sum(int(find_near_duplicates([a], [b], chosen).keeper[0] == 0) for a, b in pairs)
    assert found >= 0.97 * len(pairs)


def test_an_estimate_is_within_four_standard_deviations() -> None:
    texts = _related_texts(120, seed=4)
    chosen = MinHashSettings(threshold=1.0, shingle_words=2, bands=125, rows=1)
    found = find_near_duplicates(texts, [], chosen)
    compared = np.flatnonzero(~np.isnan(found.estimate))
    assert len(compared) > 60
    for place in compared:
        similarity = found.similarity[place]
        assert abs(found.estimate[place] - similarity) <= 4 * math.sqrt(similarity * (1 - similarity) / 125) + 1e-9


def test_the_first_of_a_cluster_is_its_keeper() -> None:
    found = find_near_duplicates(["a b c d", "a b c d e", "a b c d f", "x y z"], [], ONE_WORD)
    assert found.keeper.tolist() == [-1, 0, 0, -1]


def test_the_reference_keeps_even_where_a_text_says_exactly_the_same() -> None:
    found = find_near_duplicates(["a b c d", "a b c d"], ["a b c d e"], ONE_WORD)
    assert found.keeper.tolist() == [0, 0]


def test_of_two_equally_similar_texts_the_earlier_is_named() -> None:
    found = find_near_duplicates(["a b c d"], ["a b c d e", "a b c d f"], ONE_WORD)
    assert found.keeper.tolist() == [0]


def test_a_text_never_goes_because_of_one_that_went() -> None:
    # a~b and b~c at 3/5, a and c share 2/6: b goes because of a, c stays.
    found = find_near_duplicates(["a b c d", "b c d e", "c d e f"], [], ONE_WORD)
    assert found.keeper.tolist() == [-1, 0, -1]


def test_every_keeper_stays_itself() -> None:
    found = find_near_duplicates(_related_texts(250, seed=5), [], MinHashSettings(threshold=0.3, shingle_words=2))
    keepers = found.keeper[found.keeper >= 0]
    assert len(keepers) > 50
    assert found.kept[keepers].all()


def test_without_the_texts_themselves_only_the_reference_counts() -> None:
    texts = ["a b c d e f", "a b c d e f", "a b c d"]
    found = find_near_duplicates(texts, ["a b c"], ONE_WORD, among_texts=False)
    assert found.keeper.tolist() == [0, 0, 0]
    assert found.similarity.tolist() == [0.5, 0.5, 0.75]


def test_texts_without_a_word_are_never_near_duplicates() -> None:
    found = find_near_duplicates(["!!!", "!!!", ""], ["!!!", ""], ONE_WORD)
    assert found.kept.all()
    assert np.isnan(found.similarity).all()


def test_short_texts_repeat_each_other_whole() -> None:
    found = find_near_duplicates(["Hello", "hello!", "hello there"], [], MinHashSettings())
    assert found.keeper.tolist() == [-1, 0, -1]


def test_no_texts_give_no_answer() -> None:
    assert len(find_near_duplicates([], ["a b c"], ONE_WORD).keeper) == 0


def test_a_lone_surrogate_can_be_compared() -> None:
    assert find_near_duplicates(["a \ud800 b", "a \ud800 b"], [], ONE_WORD).keeper.tolist() == [-1, 0]


def test_a_signature_is_datasketchs_over_crc32_of_the_shingles() -> None:
    text = "The quiet river remembers the old mill."
    ours = _sketch(text, 3, 125)
    theirs = MinHash(num_perm=125, seed=1, scheme="affine32", hashfunc=lambda code: code)
    for shingle in shingles(text, 3):
        theirs.update(zlib.crc32(shingle.encode()))
    assert ours is not None
    assert ours.scheme == "affine32"
    assert ours.hashvalues.tolist() == theirs.hashvalues.tolist()
    assert ours.jaccard(theirs) == 1.0


def test_a_signature_of_another_scheme_cannot_be_compared_with_ours() -> None:
    ours = _sketch("the old river", 2, 125)
    assert ours is not None
    with pytest.raises(ValueError, match="scheme"):
        ours.jaccard(MinHash(num_perm=125, seed=1, scheme="legacy"))


def test_a_signature_does_not_follow_the_order_or_number_of_its_shingles() -> None:
    one, other = _sketch("a b a b a", 1, 40), _sketch("b a", 1, 40)
    assert one is not None and other is not None
    assert one.hashvalues.tolist() == other.hashvalues.tolist()


def test_the_probability_of_a_comparison_by_hand() -> None:
    def probability(similarity: float, bands: int, rows: int) -> float:
        return candidate_probability(similarity, MinHashSettings(bands=bands, rows=rows))

    assert probability(0.5, 1, 1) == 0.5
    assert probability(0.5, 2, 1) == 0.75
    assert probability(0.5, 1, 2) == 0.25
    assert probability(0.0, 25, 5) == 0
    assert probability(1.0, 25, 5) == 1
    assert candidate_probability(0.7, MinHashSettings()) > 0.98


@pytest.mark.parametrize(
    "wrong",
    [{"threshold": 0}, {"threshold": 1.1}, {"shingle_words": 0}, {"bands": 0}, {"rows": 0}, {"permutations": 9}],
)
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        MinHashSettings.model_validate(wrong)
