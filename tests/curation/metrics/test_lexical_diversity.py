import math

import numpy as np
import pytest

from curation.metrics.lexical_diversity import compression_ratio, distinct_n, entropy, zipf_exponent


def test_entropy_of_equal_shares_is_the_log_of_their_number() -> None:
    assert entropy(np.array([3, 3, 3, 3, 0])) == pytest.approx(math.log(4))
    assert entropy(np.array([9])) == 0
    assert entropy(np.zeros(4, int)) == 0


def test_distinct_by_hand() -> None:
    assert distinct_n(np.array([1, 3, 0])) == 2 / 4
    assert distinct_n(np.zeros(2, int)) == 0


@pytest.mark.parametrize("exponent", [0.7, 1.0, 1.4])
def test_the_exponent_of_a_zipf_law_is_found_again(exponent: float) -> None:
    counts = np.round(1e6 / np.arange(1, 3001) ** exponent).astype(np.int64)
    assert zipf_exponent(counts) == pytest.approx(exponent, abs=0.02)


def test_too_few_words_have_no_slope() -> None:
    assert zipf_exponent(np.array([5])) == zipf_exponent(np.zeros(0, int)) == 0


def test_what_repeats_itself_compresses_better() -> None:
    plain = [[f"w{place}" for place in range(200)]]
    assert compression_ratio([["say", "it", "again"]] * 70) > 3 * compression_ratio(plain) > 1
    assert compression_ratio([]) == 0
