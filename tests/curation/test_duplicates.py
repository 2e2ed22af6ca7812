import numpy as np

from curation.decisions import Duplicates


def test_without_an_answer_every_text_stays() -> None:
    answer = Duplicates.none(3)
    assert answer.kept.tolist() == [True, True, True]
    assert np.isnan(answer.similarity).all()
    assert np.isnan(answer.estimate).all()


def test_a_text_stays_only_without_a_keeper() -> None:
    answer = Duplicates.none(3)
    answer.keeper[1] = 0
    answer.keeper[2] = 7
    assert answer.kept.tolist() == [True, False, False]


def test_an_answer_about_nothing_is_empty() -> None:
    assert len(Duplicates.none(0).kept) == 0
