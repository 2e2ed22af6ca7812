import numpy as np

from curation.decisions import FilterResult


def test_a_text_without_a_reason_stays() -> None:
    assert FilterResult(["", "too short"], np.array([np.nan, 3.0])).kept.tolist() == [True, False]
    assert FilterResult([], np.zeros(0)).kept.tolist() == []
