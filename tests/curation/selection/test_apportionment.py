import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.selection.apportionment import (
    largest_remainder,
    quotas_by_source,
    require_enough,
    rows_by_group,
    validate_shares,
)


@given(st.integers(0, 10**9), st.lists(st.integers(1, 10**6), min_size=1, max_size=12))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_quotas_sum_to_the_total_and_miss_no_share_by_a_whole_record(total: int, parts: list[int]) -> None:
    shares = {f"source {place}": part / sum(parts) for place, part in enumerate(parts)}
    counts = largest_remainder(total, shares)
    assert sum(counts.values()) == total
    for place, part in enumerate(parts):
        # Shares are floats: of a thousand million records they can be off by some ten-millionth of one.
        exact = total * part / sum(parts)
        assert math.floor(exact - 1e-6) <= counts[f"source {place}"] <= math.ceil(exact + 1e-6)
    assert counts == largest_remainder(total, shares)


@given(st.integers(0, 10**6), st.lists(st.floats(0, 1e3), min_size=1, max_size=8).filter(any))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_quotas_are_those_of_exact_fractions_of_the_written_shares(total: int, values: list[float]) -> None:
    shares = {f"source {place}": value for place, value in enumerate(values)}
    written = {source: Fraction(repr(value)) for source, value in shares.items()}
    exact = {source: total * share / sum(written.values()) for source, share in written.items()}
    expected = {source: math.floor(count) for source, count in exact.items()}
    by_remainder = sorted(exact, key=lambda source: expected[source] - exact[source])
    for source in by_remainder[: total - sum(expected.values())]:
        expected[source] += 1
    assert largest_remainder(total, shares) == expected


def test_what_is_left_goes_to_the_largest_remainders() -> None:
    assert largest_remainder(10, {"a": 0.46, "b": 0.38, "c": 0.16}) == {"a": 5, "b": 4, "c": 1}
    assert largest_remainder(10, {"c": 0.16, "b": 0.38, "a": 0.46}) == {"a": 4, "b": 4, "c": 2}
    assert largest_remainder(3, {"a": 0.5, "b": 0.5}) == {"a": 2, "b": 1}
    assert largest_remainder(100, {"a": 0.29, "b": 0.71}) == {"a": 29, "b": 71}
    assert largest_remainder(7, {"a": 1.0, "b": 0.0}) == {"a": 7, "b": 0}


def test_source_shares_of_human_records_count_their_records() -> None:
    assert quotas_by_source(5, "proportional", ["b", "a", "a", "a"]) == {"a": 4, "b": 1}
    assert quotas_by_source(5, {"b": 1.0}, ["b", "a"]) == {"b": 5}


def test_the_order_in_which_sources_are_written_changes_nothing() -> None:
    one, other = ({"b": 0.5, "a": 0.5}, {"a": 0.5, "b": 0.5})
    assert (
        list(quotas_by_source(3, one, []).items())
        == list(quotas_by_source(3, other, []).items())
        == [("a", 2), ("b", 1)]
    )


@pytest.mark.parametrize("wrong", [{}, {"a": 0.5}, {"a": 1.5, "b": -0.5}])
def test_shares_that_do_not_sum_to_1_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(
        ValueError, match="`human_source_shares` must be shares of 0 or more that sum to 1; these sum to"
    ):
        validate_shares(wrong, "human_source_shares")


def test_a_request_beyond_what_is_available_is_refused_with_a_remedy() -> None:
    require_enough("The mix", 3, 3, "letters", "Write more.")
    with pytest.raises(ValueError, match=r"^The mix requires 4 letters, but only 3 are available. Write more.$"):
        require_enough("The mix", 4, 3, "letters", "Write more.")


def test_rows_are_grouped_in_their_order() -> None:
    rows = rows_by_group(["b", "a", "c", "b"])
    assert {group: found.tolist() for group, found in rows.items()} == {"b": [0, 3], "a": [1], "c": [2]}
    assert rows_by_group([]) == {}
