"""A verifier that errs is worth something up to its break-even, and nothing beyond."""

import numpy as np
import pytest

from benchmarks.theory.closed_form import verifier_break_even
from benchmarks.theory.verifying import accuracy


@pytest.mark.parametrize(("right", "wrong"), [(1.0, 1.0), (0.9, 0.3), (0.7, 0.05)])
def test_accuracy_switches_at_the_break_even(right: float, wrong: float) -> None:
    edge = verifier_break_even(right, wrong)
    below, above = (np.mean([accuracy(edge + away, right, wrong, seed) for seed in range(4)]) for away in (-0.02, 0.02))
    assert below > 0.7
    assert above < 0.3


def test_more_labels_make_it_better_below_and_worse_beyond() -> None:
    for wrong, better in ((0.48, 1), (0.52, -1)):
        few, many = (accuracy(wrong, 1, 1, 0, records=records) for records in (2_000, 60_000))
        assert better * (many - few) > 0.1


def test_without_a_wrong_label_it_is_right() -> None:
    assert accuracy(0, 1, 1, 0) > 0.99
