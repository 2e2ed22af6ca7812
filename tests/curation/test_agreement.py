"""Agreement between reviewers: Krippendorff's alpha against its published examples and its laws."""

import math
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.verification.agreement import krippendorff_alpha

_RECORDS = st.lists(st.lists(st.sampled_from(["accept", "reject", "edit"]), max_size=4), min_size=1, max_size=12)


def test_alpha_of_two_reviewers_and_two_values_is_the_published_one() -> None:
    # Krippendorff (2011), section A: ten records, two observers, alpha = 0.095.
    first, second = "0100000000", "1110010100"
    assert krippendorff_alpha(list(zip(first, second, strict=True))) == pytest.approx(0.095, abs=5e-4)


def test_alpha_of_four_reviewers_with_missing_judgements_is_the_published_one() -> None:
    # Krippendorff (2011), section C: twelve records, four observers, nominal alpha = 0.743.
    observers = (
        "1 2 3 3 2 1 4 1 2 . . .",
        "1 2 3 3 2 2 4 1 2 5 . 3",
        ". 3 3 3 2 3 4 2 2 5 1 .",
        "1 2 3 3 2 4 4 1 2 5 1 .",
    )
    records = zip(*(observer.split() for observer in observers), strict=True)
    assert krippendorff_alpha([[value for value in record if value != "."] for record in records]) == pytest.approx(
        0.743, abs=5e-4
    )


def test_full_agreement_on_several_values_is_one() -> None:
    assert krippendorff_alpha([("accept", "accept"), ("reject", "reject", "reject")]) == 1


@pytest.mark.parametrize("judgements", [[], [("accept",)], [("accept", "accept"), ("accept", "accept")]])
def test_without_variation_or_pairs_there_is_no_alpha(judgements: list[tuple[str, ...]]) -> None:
    assert math.isnan(krippendorff_alpha(judgements))


@given(_RECORDS)
def test_alpha_ignores_lone_judgements_and_the_order_of_reviewers(records: list[list[str]]) -> None:
    alpha = krippendorff_alpha(records)
    assert krippendorff_alpha([*records, ["reject"]]) == pytest.approx(alpha, nan_ok=True)
    assert krippendorff_alpha([record[::-1] for record in records]) == pytest.approx(alpha, nan_ok=True)
    assert math.isnan(alpha) or alpha <= 1


@given(_RECORDS)
def test_alpha_does_not_depend_on_the_names_of_the_values(records: list[list[str]]) -> None:
    alpha = krippendorff_alpha(records)
    for names in permutations(["accept", "reject", "edit"]):
        renamed = dict(zip(["accept", "reject", "edit"], names, strict=True))
        assert krippendorff_alpha([[renamed[value] for value in record] for record in records]) == pytest.approx(
            alpha, nan_ok=True
        )
