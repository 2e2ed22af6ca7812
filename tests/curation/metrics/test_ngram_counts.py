from curation.metrics.ngram_counts import count_ngrams, count_words, take_words, word_counts


def test_first_words_run_on_over_the_texts_and_stop_in_time() -> None:
    texts = ["The old river.", "", "Runs east, slowly!"]
    assert take_words(texts, 4) == [["the", "old", "river"], ["runs"]]
    assert count_words(take_words(texts, 100)) == 6
    assert take_words([], 5) == []
    assert take_words(["!!", "--"], 5) == []


def test_texts_behind_the_last_word_are_not_read() -> None:
    texts = iter(["one two", "three four", "five six"])
    assert count_words(take_words(texts, 3)) == 3
    assert list(texts) == ["five six"]


def test_runs_are_counted_within_texts_and_by_groups() -> None:
    found = count_ngrams([["a", "b", "a", "b"], ["c"]], [["a", "b"], ["b", "c"]], 2)
    # a b and b a by people; a b, and b c which people never say, by the others.
    assert sorted(zip(found.human.tolist(), found.total.tolist(), strict=True)) == [(0, 1), (1, 0), (2, 1)]
    assert [one.sum() for one in found.synthetic] == [1, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    assert [one.sum() for one in found.leave_one_out()] == [1, 1]


def test_texts_shorter_than_the_ngram_have_no_counts() -> None:
    found = count_ngrams([], [["a"]], 3)
    assert found.human.tolist() == found.total.tolist() == []


def test_tallies_are_of_human_words_alone_and_of_one_shape() -> None:
    human, synthetic = word_counts([["a", "b"], ["a"]], [["b", "x"], ["b"]])
    assert (human.tolist(), synthetic.tolist()) == ([2, 1], [0, 2])
