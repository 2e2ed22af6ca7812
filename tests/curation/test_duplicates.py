import numpy as np

from curation.decisions import DuplicateMatches


def test_without_an_answer_every_text_stays() -> None:
    answer = DuplicateMatches.all_kept(3)
    assert answer.kept.tolist() == [True, True, True]
    assert np.isnan(answer.similarity).all()
    assert np.isnan(answer.estimated).all()


def test_a_text_stays_only_without_a_keeper() -> None:
    answer = DuplicateMatches.all_kept(3)
    answer.duplicate_of[1] = 0
    answer.duplicate_of[2] = 7
    assert answer.kept.tolist() == [True, False, False]


def test_an_answer_about_nothing_is_empty() -> None:
    assert len(DuplicateMatches.all_kept(0).kept) == 0
