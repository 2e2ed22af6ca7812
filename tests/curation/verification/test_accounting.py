"""A verifier is accounted for by what it keeps of right and of wrong answers."""

import math
from itertools import combinations

import numpy as np
import pytest

from curation.verification.accounting import (
    account_for_verifier,
    answer_entropies,
    break_even,
    pass_at_k,
    wilson_interval,
)


def test_known_rates_lie_within_their_intervals() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        right = rng.random(500) < 0.6
        kept = np.where(right, rng.random(500) < 0.9, rng.random(500) < 0.3)
        account = account_for_verifier(kept.tolist(), right.tolist())
        inside += account.phi.low <= 0.9 <= account.phi.high and account.psi.low <= 0.3 <= account.psi.high
    assert inside / 200 > 0.85


def test_break_even_is_the_published_formula() -> None:
    assert break_even(0.9, 0.3) == pytest.approx(1 / (1 + 0.3 / 0.9))
    assert break_even(0.5, 0.0) == 1
    assert break_even(0.0, 0.5) == 0
    assert math.isnan(break_even(0.0, 0.0))


def test_a_verifier_that_keeps_wrong_answers_more_often_is_harmful() -> None:
    right = [True] * 100 + [False] * 100
    harmful = account_for_verifier([False] * 60 + [True] * 40 + [True] * 80 + [False] * 20, right)
    helpful = account_for_verifier([True] * 80 + [False] * 20 + [True] * 20 + [False] * 80, right)
    assert (harmful.is_harmful, helpful.is_harmful) == (True, False)
    assert harmful.error_rate_kept.value > harmful.error_rate.value
    assert helpful.error_rate_kept.value < helpful.error_rate.value


def test_an_error_rate_above_break_even_is_seen_only_with_enough_labels() -> None:
    def account(count: int) -> bool:
        right = [True] * count + [False] * 9 * count
        kept = [True] * count + [True] * 3 * count + [False] * 6 * count
        return account_for_verifier(kept, right).is_beyond_break_even

    assert (account(1), account(40)) == (False, True)


def test_a_sample_without_labels_has_wide_intervals() -> None:
    account = account_for_verifier([], [])
    assert (account.phi.low, account.phi.high) == (0, 1)
    assert math.isnan(account.break_even)
    assert not account.is_harmful
    with pytest.raises(ValueError, match="2 verdicts for 1 labels"):
        account_for_verifier([True, False], [True])


def test_pass_at_k_equals_the_share_of_subsets_with_a_right_answer() -> None:
    for total, right in ((5, 0), (5, 2), (6, 6), (4, 1)):
        answers = [True] * right + [False] * (total - right)
        for k in range(1, total + 1):
            expected = np.mean([any(subset) for subset in combinations(answers, k)])
            assert pass_at_k(np.array([total]), np.array([right]), k)[0] == pytest.approx(expected)


def test_pass_at_k_of_too_few_answers_is_refused() -> None:
    with pytest.raises(ValueError, match="pass@3 of a problem with 2 answers"):
        pass_at_k(np.array([2, 5]), np.array([1, 1]), 3)


def test_answer_entropy_is_zero_for_equal_answers_and_largest_for_distinct_ones() -> None:
    assert answer_entropies([["a", "a"], ["a", "b"], ["a", "b", "c", "d"]]).tolist() == pytest.approx(
        [0.0, math.log(2), math.log(4)]
    )


def test_the_interval_of_a_share_is_wilsons() -> None:
    interval = wilson_interval(8, 10)
    assert (interval.low, interval.high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
