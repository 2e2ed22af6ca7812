import math
import random
from dataclasses import replace
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from datasketch import MinHash, MinHashLSH
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curation.decisions import DuplicateMatches
from curation.dedup.kernels.dispatch import HashKernel, numba_kernel, numpy_kernel
from curation.dedup.kernels.text_buffer import to_text_buffer
from curation.dedup.minhash import (
    EMPTY_VALUE,
    MinHashSettings,
    band_hashes,
    candidate_probability,
    drop_frequent,
    find_near_duplicates,
    frequent_shingles,
    sample_rows,
    signatures,
    verify,
)
from curation.text import shingles

KERNELS = pytest.mark.parametrize("kernel", [numba_kernel(), numpy_kernel()], ids=lambda kernel: kernel.name)

ONE_WORD = MinHashSettings(threshold=0.5, shingle_length=1, num_bands=60, rows_per_band=1)
"""Sets of single words, and bands enough that no pair worth comparing is missed."""


def _jaccard(left: str, right: str, length: int) -> float:
    one, other = _shingle_set(left, length), _shingle_set(right, length)
    return len(one & other) / len(one | other)


@cache
def _shingle_set(text: str, length: int) -> frozenset[str]:
    return frozenset(shingles(text, length))


def _related_texts(count: int, seed: int) -> list[str]:
    """Texts of 30 words, most of them an earlier one with some words changed."""
    rng = random.Random(seed)
    vocabulary = [f"word{number}" for number in range(400)]
    texts = [" ".join(rng.sample(vocabulary, 30))]
    while len(texts) < count:
        found = rng.choice(texts).split()
        if rng.random() < 0.25:
            found = rng.sample(vocabulary, 30)
        start = rng.randrange(30)
        for place in range(start, min(30, start + rng.choice([0, 1, 2, 3, 4, 6, 9]))):
            found[place] = rng.choice(vocabulary)
        texts.append(" ".join(found))
    return texts


def test_two_texts_by_eye() -> None:
    # Five shingles of two words each, four of them shared: 4 / 6.
    found = find_near_duplicates(
        ["the old river runs slowly east", "the old river runs slowly west"],
        [],
        MinHashSettings(threshold=0.6, shingle_length=2, num_bands=60, rows_per_band=1),
    )
    assert found.duplicate_of.tolist() == [-1, 0]
    assert found.similarity[1] == 4 / 6


def test_a_similarity_at_the_threshold_is_a_duplicate_and_just_below_is_none() -> None:
    texts = ["a b c d e f g h i j", "a b c d e f g"]
    at, above = (
        find_near_duplicates(
            texts, [], MinHashSettings(threshold=value, shingle_length=1, num_bands=60, rows_per_band=1)
        )
        for value in (0.7, 0.71)
    )
    assert at.duplicate_of.tolist() == [-1, 0]
    assert above.duplicate_of.tolist() == [-1, -1]
    assert above.similarity[1] == 0.7


def test_no_pair_is_called_duplicate_on_an_estimate() -> None:
    texts = _related_texts(250, seed=1)
    settings_ = MinHashSettings(threshold=0.5, shingle_length=2)
    found = find_near_duplicates(texts, [], settings_)
    dropped = np.flatnonzero(~found.kept)
    assert len(dropped) > 50
    for place in dropped:
        similarity = _jaccard(texts[place], texts[found.duplicate_of[place]], 2)
        assert similarity >= settings_.threshold
        assert found.similarity[place] == similarity


def test_matches_equal_those_of_comparing_every_pair() -> None:
    texts = _related_texts(200, seed=2)
    thorough = MinHashSettings(threshold=0.6, shingle_length=2, num_bands=60, rows_per_band=2)
    reference, candidates = texts[:60], texts[60:]
    kept, expected = list(range(60)), []
    for row in range(60, 200):
        similarity, nearest = max((_jaccard(texts[row], texts[other], 2), -other) for other in kept)
        expected.append(-nearest if similarity >= thorough.threshold else -1)
        if expected[-1] < 0:
            kept.append(row)
    found = find_near_duplicates(candidates, reference, thorough)
    assert found.duplicate_of.tolist() == expected
    assert 20 < sum(row >= 0 for row in expected) < 130


@pytest.mark.slow
def test_at_least_97_of_100_pairs_at_the_default_threshold_are_found() -> None:
    texts = _related_texts(160, seed=3)
    settings_ = MinHashSettings()
    pairs = [(a, b) for place, a in enumerate(texts) for b in texts[:place] if _jaccard(a, b, 3) >= settings_.threshold]
    assert len(pairs) > 60
    found = sum(int(find_near_duplicates([a], [b], settings_).duplicate_of[0] == 0) for a, b in pairs)
    assert found >= 0.97 * len(pairs)


def test_an_estimate_is_within_four_standard_deviations() -> None:
    texts = _related_texts(120, seed=4)
    found = find_near_duplicates(
        texts, [], MinHashSettings(threshold=0.3, shingle_length=2, num_bands=125, rows_per_band=1)
    )
    compared = np.flatnonzero(~np.isnan(found.estimated))
    assert len(compared) > 60
    for place in compared:
        similarity = found.similarity[place]
        assert abs(found.estimated[place] - similarity) <= 4 * math.sqrt(similarity * (1 - similarity) / 125) + 1e-9


def test_the_first_text_of_a_cluster_represents_it() -> None:
    found = find_near_duplicates(["a b c d", "a b c d e", "a b c d f", "x y z"], [], ONE_WORD)
    assert found.duplicate_of.tolist() == [-1, 0, 0, -1]


def test_the_reference_is_kept_even_where_a_text_is_an_exact_copy() -> None:
    found = find_near_duplicates(["a b c d", "a b c d"], ["a b c d e"], ONE_WORD)
    assert found.duplicate_of.tolist() == [0, 0]


def test_of_two_equally_similar_texts_the_earlier_is_named() -> None:
    found = find_near_duplicates(["a b c d"], ["a b c d e", "a b c d f"], ONE_WORD)
    assert found.duplicate_of.tolist() == [0]


def test_a_text_is_never_a_duplicate_of_a_dropped_text() -> None:
    # a~b and b~c at 3/5, a and c share 2/6: b is a duplicate of a, c is kept.
    found = find_near_duplicates(["a b c d", "b c d e", "c d e f"], [], ONE_WORD)
    assert found.duplicate_of.tolist() == [-1, 0, -1]


def test_every_representative_is_kept_itself() -> None:
    found = find_near_duplicates(_related_texts(250, seed=5), [], MinHashSettings(threshold=0.3, shingle_length=2))
    representatives = found.duplicate_of[found.duplicate_of >= 0]
    assert len(representatives) > 50
    assert found.kept[representatives].all()


def test_without_the_texts_themselves_only_the_reference_counts() -> None:
    texts = ["a b c d e f", "a b c d e f", "a b c d"]
    found = find_near_duplicates(texts, ["a b c"], ONE_WORD, among_texts=False)
    assert found.duplicate_of.tolist() == [0, 0, 0]
    assert found.similarity.tolist() == [0.5, 0.5, 0.75]


def test_texts_without_a_word_are_never_near_duplicates() -> None:
    found = find_near_duplicates(["!!!", "!!!", ""], ["!!!", ""], ONE_WORD)
    assert found.kept.all()
    assert np.isnan(found.similarity).all()


def test_texts_shorter_than_a_shingle_are_compared_whole() -> None:
    found = find_near_duplicates(["Hello", "hello!", "hello there"], [], MinHashSettings())
    assert found.duplicate_of.tolist() == [-1, 0, -1]


def test_no_texts_give_no_matches() -> None:
    assert len(find_near_duplicates([], ["a b c"], ONE_WORD).duplicate_of) == 0


def test_a_lone_surrogate_can_be_compared() -> None:
    assert find_near_duplicates(["a \ud800 b", "a \ud800 b"], [], ONE_WORD).duplicate_of.tolist() == [-1, 0]


TEXTS = [
    "The quiet river remembers the old mill.",
    "the QUIET river, remembers the old mill",
    "日本語の文章と English words, हिन्दी भाषा",
    "שלום עולם, مرحبا بالعالم",
    "👩\u200d👩\u200d👧 🎉 party 🎉 tonight",
    "a lone \ud800 surrogate",
    "word",
    "x" * 100 + " " + "y" * 64 + " z",
    *_related_texts(40, seed=6),
]


def _shingle_codes(text: str, settings_: MinHashSettings, kernel: HashKernel) -> np.ndarray:
    folded = to_text_buffer([text], normalization=settings_.normalization)
    hashes, _ = kernel.shingle_hashes(folded.content, folded.starts, folded.stops, settings_.shingling)
    return (hashes >> np.uint64(32)).astype(np.uint32)


@KERNELS
@pytest.mark.parametrize("unit", ["words", "characters"])
@pytest.mark.parametrize(("bands", "rows"), [(25, 5), (1, 1), (9, 7)])
def test_a_signature_equals_that_of_datasketch_over_the_same_shingle_hashes(
    kernel: HashKernel, unit: str, bands: int, rows: int
) -> None:
    settings_ = MinHashSettings(shingle_unit=unit, num_bands=bands, rows_per_band=rows)
    for text, ours in zip(TEXTS, signatures(TEXTS, settings_, kernel=kernel), strict=True):
        theirs = MinHash(num_perm=bands * rows, seed=1, scheme="affine32", hashfunc=int)
        theirs.update_batch(_shingle_codes(text, settings_, kernel).tolist())
        assert theirs.hashvalues.dtype == ours.dtype == np.uint32
        assert theirs.hashvalues.tolist() == ours.tolist()


def test_a_stored_signature_opens_as_datasketchs_and_is_found_by_its_index() -> None:
    found = signatures(TEXTS, MinHashSettings())
    opened = [MinHash(num_perm=125, seed=1, hashvalues=row, scheme="affine32", hashfunc=int) for row in found]
    index = MinHashLSH(num_perm=125, params=(25, 5))
    for row, sketch in enumerate(opened):
        index.insert(row, sketch)
    assert opened[0].jaccard(opened[1]) == 1.0
    for row, sketch in enumerate(opened):
        similar = [other for other in range(len(TEXTS)) if sketch.jaccard(opened[other]) >= 0.9]
        assert set(similar) <= set(index.query(sketch))
        assert row in similar
    merged = opened[0].copy()
    merged.update_batch(_shingle_codes("another text altogether", MinHashSettings(), numba_kernel()).tolist())
    merged_text = signatures(["another text altogether"], MinHashSettings())[0]
    assert merged.hashvalues.tolist() == np.minimum(found[0], merged_text).tolist()


GOLDEN_SIGNATURES = [[3070233580, 1592232650, 1655201818, 1093394716], [1502115340, 469914696, 667164028, 181513321]]
GOLDEN_BANDS = [[18158150753567619916, 12238072584046628046], [16492881805565028306, 5743959576680862161]]


def test_signatures_and_band_hashes_of_format_1_do_not_change() -> None:
    settings_ = MinHashSettings(shingle_length=2, num_bands=2, rows_per_band=2)
    found = signatures(["the old river runs", "l’été, 日本 ÉCOLE"], settings_)
    assert found.tolist() == GOLDEN_SIGNATURES
    assert band_hashes(found, settings_).tolist() == GOLDEN_BANDS


@KERNELS
def test_bands_are_equal_exactly_where_their_values_are(kernel: HashKernel) -> None:
    settings_ = MinHashSettings(num_bands=5, rows_per_band=2)
    found = signatures(TEXTS, settings_)
    hashes = band_hashes(found, settings_, kernel=kernel)
    assert hashes.shape == (len(TEXTS), 5)
    for band in range(5):
        values = [tuple(row) for row in found[:, 2 * band : 2 * band + 2].tolist()]
        assert len(set(hashes[:, band].tolist())) == len(set(values))
    assert len(set(hashes.ravel().tolist())) == sum(len(set(hashes[:, band].tolist())) for band in range(5))


@KERNELS
def test_a_text_without_a_word_has_no_signature_and_no_band(kernel: HashKernel) -> None:
    found = signatures(["", "?! ...", "word"], MinHashSettings(), kernel=kernel)
    assert (found[:2] == EMPTY_VALUE).all() and not (found[2] == EMPTY_VALUE).all()
    hashes = band_hashes(found, MinHashSettings(), kernel=kernel)
    assert not hashes[:2].any() and hashes[2].all()


def test_a_signature_does_not_depend_on_the_order_or_number_of_its_shingles() -> None:
    one, other = signatures(["a b a b a", "b a"], ONE_WORD)
    assert one.tolist() == other.tolist()


@KERNELS
@pytest.mark.parametrize("threads", [1, 2])
def test_verified_similarities_equal_those_of_sets(kernel: HashKernel, threads: int) -> None:
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, len(TEXTS), (300, 2))
    for unit in ("words", "characters"):
        settings_ = MinHashSettings(shingle_unit=unit, shingle_length=2)
        found = verify(TEXTS, pairs, settings_, kernel=replace(kernel, threads=threads))
        for (left, right), similarity in zip(pairs.tolist(), found.tolist(), strict=True):
            one, other = set(shingles(TEXTS[left], 2, unit)), set(shingles(TEXTS[right], 2, unit))
            assert similarity == len(one & other) / len(one | other)


def _by_comparing_every_pair(texts: list[str], reference: int, threshold: float, among_texts: bool) -> list[bool]:
    kept = [True] * len(texts)
    for row in range(reference, len(texts)):
        before = [other for other in range(row if among_texts else reference) if kept[other]]
        sets = frozenset(texts[row].split())
        kept[row] = not sets or not any(
            len(sets & set(texts[other].split())) / len(sets | set(texts[other].split())) >= threshold
            for other in before
        )
    return kept[reference:]


@pytest.mark.slow
@given(
    st.lists(st.lists(st.sampled_from("abcdefghij"), max_size=8).map(" ".join), min_size=1, max_size=14),
    st.integers(0, 4),
    st.sampled_from([0.4, 0.5, 0.7, 1.0]),
    st.booleans(),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_kept_texts_equal_those_of_comparing_every_pair(
    texts: list[str], reference: int, threshold: float, among_texts: bool
) -> None:
    reference = min(reference, len(texts))
    expected = _by_comparing_every_pair(texts, reference, threshold, among_texts)
    settings_ = MinHashSettings(threshold=threshold, shingle_length=1, num_bands=150, rows_per_band=1)
    for kernel, threads in ((numba_kernel(), 1), (numba_kernel(), 2), (numpy_kernel(), 1)):
        found = find_near_duplicates(
            texts[reference:],
            texts[:reference],
            settings_,
            among_texts=among_texts,
            kernel=replace(kernel, threads=threads),
        )
        assert found.kept.tolist() == expected
        for place in np.flatnonzero(~found.kept):
            representative = found.duplicate_of[place]
            assert representative < reference + place
            assert representative < reference or (among_texts and found.kept[representative - reference])
            one, other = set(texts[reference + place].split()), set(texts[representative].split())
            assert found.similarity[place] == len(one & other) / len(one | other)


def _same(first: DuplicateMatches, second: DuplicateMatches) -> bool:
    return (
        np.array_equal(first.duplicate_of, second.duplicate_of)
        and np.array_equal(first.similarity, second.similarity, equal_nan=True)
        and np.array_equal(first.estimated, second.estimated, equal_nan=True)
    )


def test_matches_do_not_depend_on_kernel_threads_or_the_chunks_of_a_column() -> None:
    texts = _related_texts(3000, seed=7)
    first = find_near_duplicates(texts[500:], texts[:500], MinHashSettings(), kernel=replace(numba_kernel(), threads=1))
    assert 100 < int(first.kept.sum()) < 2400
    column, before = pa.array(texts[500:]), pa.array(["left out", *texts[:500]]).slice(1)
    pieces = pa.chunked_array([column.slice(0, 7), column.slice(7, 0), column.slice(7)])
    for again in (
        find_near_duplicates(texts[500:], texts[:500], MinHashSettings(), kernel=replace(numba_kernel(), threads=2)),
        find_near_duplicates(texts[500:], texts[:500], MinHashSettings(), kernel=replace(numpy_kernel(), threads=2)),
        find_near_duplicates(pieces, before, MinHashSettings(), kernel=replace(numba_kernel(), threads=2)),
        find_near_duplicates(column.cast(pa.large_string()), texts[:500], MinHashSettings()),
    ):
        assert _same(first, again)


def test_a_duplicate_of_a_dropped_text_is_compared_with_the_kept_texts() -> None:
    # b is a duplicate of a; c is similar to b but not to a, so c is kept; d is a duplicate of c.
    texts = ["a b c d", "b c d e", "c d e f", "c d e f g"]
    assert find_near_duplicates(texts, [], ONE_WORD).duplicate_of.tolist() == [-1, 0, -1, 2]


@pytest.mark.slow
def test_a_million_copies_are_duplicates_of_the_first() -> None:
    found = find_near_duplicates(pa.array(["the same old story again"] * 1_000_000), [], MinHashSettings())
    assert found.duplicate_of[0] == -1
    assert (found.duplicate_of[1:] == 0).all()
    assert (found.similarity[1:] == 1).all()


@pytest.mark.slow
def test_a_document_of_ten_megabytes_is_compared_like_any_other() -> None:
    rng = random.Random(8)
    huge = " ".join(rng.choice("abcdefgh") * rng.randint(1, 12) for _ in range(1_500_000))
    assert len(huge) > 9_000_000
    found = find_near_duplicates([huge, "short", huge + " and more", "z" * 3_000_000], [], MinHashSettings())
    assert found.duplicate_of.tolist() == [-1, -1, 0, -1]
    assert found.similarity[2] == verify([huge, huge + " and more"], np.array([[0, 1]]), MinHashSettings())[0]


def test_templates_are_masked_and_counted_only_with_a_frequency_limit() -> None:
    rng = random.Random(9)
    template = " ".join(f"t{place}" for place in range(120))
    own = [" ".join(f"w{rng.randrange(10_000)}" for _ in range(20)) for _ in range(40)]
    texts = [*(f"{template} {text}" for text in own), f"{template} {own[3]}", template, template]
    unmasked, masked = (
        find_near_duplicates(texts, [], MinHashSettings(threshold=0.5, max_shingle_document_frequency=share))
        for share in (None, 0.5)
    )
    assert unmasked.masked == 0 and int(unmasked.kept.sum()) == 1
    assert masked.masked == 118
    assert np.flatnonzero(~masked.kept).tolist() == [40, 42]
    assert masked.duplicate_of[[40, 42]].tolist() == [3, 41]


def test_no_shingle_is_frequent_among_a_few_texts() -> None:
    found = find_near_duplicates(["a b c"] * 5, [], MinHashSettings(max_shingle_document_frequency=0.1))
    assert found.masked == 0
    assert found.duplicate_of.tolist() == [-1, 0, 0, 0, 0]


def test_the_probability_of_a_comparison_by_hand() -> None:
    def probability(similarity: float, bands: int, rows: int) -> float:
        return candidate_probability(similarity, MinHashSettings(num_bands=bands, rows_per_band=rows))

    assert probability(0.5, 1, 1) == 0.5
    assert probability(0.5, 2, 1) == 0.75
    assert probability(0.5, 1, 2) == 0.25
    assert probability(0.0, 25, 5) == 0
    assert probability(1.0, 25, 5) == 1
    assert candidate_probability(0.7, MinHashSettings()) > 0.98


def test_shingle_words_is_defined_for_both_units() -> None:
    assert MinHashSettings(shingle_length=5).shingle_words == 5
    assert MinHashSettings(shingle_unit="characters", shingle_length=20).shingle_words == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": 0},
        {"threshold": 1.1},
        {"shingle_length": 0},
        {"shingle_unit": "lines"},
        {"num_bands": 0},
        {"rows_per_band": 0},
        {"max_shingle_document_frequency": 1},
        {"permutations": 9},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        MinHashSettings.model_validate(wrong)


def _sets(*sets: list[int]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([code for codes in sets for code in codes], np.uint64), np.cumsum([0, *map(len, sets)])


def test_frequent_shingles_are_in_more_than_the_share_and_at_least_ten_sets() -> None:
    hashes, starts = _sets(*[[1, 2, 10 + place] for place in range(12)], *[[1, 2], [1], [1]] * 4)
    assert frequent_shingles(hashes, starts, 0.5).tolist() == [1, 2]
    assert frequent_shingles(hashes, starts, 0.7).tolist() == [1]
    assert frequent_shingles(*_sets(*[[1, 2]] * 9), 0.5).tolist() == []


def test_a_hash_is_counted_once_per_set() -> None:
    assert frequent_shingles(*_sets(*[[7] * 20] * 3, *[[1]] * 9), 0.1).tolist() == []


def test_frequent_hashes_are_dropped_unless_a_set_has_no_other() -> None:
    hashes, starts = _sets([1, 5, 2], [], [2, 1], [6])
    left, edges = drop_frequent(hashes, starts, np.array([1, 2], np.uint64))
    assert left.tolist() == [5, 2, 1, 6]
    assert edges.tolist() == [0, 1, 1, 3, 4]


def test_at_most_two_thousand_evenly_spaced_rows_are_sampled() -> None:
    assert sample_rows(0).tolist() == []
    assert sample_rows(3).tolist() == [0, 1, 2]
    rows = sample_rows(100_000)
    assert len(rows) == 2000
    assert (rows[0], rows[-1]) == (0, 99_999)
    assert np.diff(rows).max() <= 51
