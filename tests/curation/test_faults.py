import numpy as np

from curation.decisions import Faults


def test_a_text_without_a_reason_stays() -> None:
    assert Faults(["", "too short"], np.array([np.nan, 3.0])).kept.tolist() == [True, False]
    assert Faults([], np.zeros(0)).kept.tolist() == []
