"""Whether a filter drops more of a source than it usually does."""

import numpy as np

from curation.metrics.filter_rates import FilterRate, FilterRates, find_filter_rate_alerts


def _drawn(share: float, sources: int, rng: np.random.Generator) -> dict[tuple[str, str], FilterRate]:
    stages = ("exact", "minhash", "semantic")
    return {
        (f"source-{number}", stage): FilterRate(int(rng.binomial(200, share)), 200)
        for number in range(sources)
        for stage in stages
    }


def test_a_source_that_loses_more_than_before_is_named_with_both_shares_and_what_to_do() -> None:
    before = {("letters", "minhash"): FilterRate(12, 600), ("wiki", "minhash"): FilterRate(15, 600)}
    now = {("letters", "minhash"): FilterRate(70, 200), ("wiki", "minhash"): FilterRate(6, 200)}
    (found,) = find_filter_rate_alerts(now, before)
    assert (found.source, found.filter, found.dropped, found.num_seen, found.baseline_rate) == (
        "letters",
        "minhash",
        70,
        200,
        0.02,
    )
    assert found.reason == (
        "minhash dropped 35.0% of letters (70 of 200); usual is 2.0%, by earlier generations. "
        "If they share words of the prompt, change its template, or ignore such words by "
        "`curate.minhash.max_shingle_document_frequency`."
    )


def test_where_nothing_went_before_the_other_sources_together_say_what_is_usual() -> None:
    now = {
        ("letters", "exact"): FilterRate(40, 100),
        ("wiki", "exact"): FilterRate(2, 100),
        ("", "exact"): FilterRate(1, 100),
    }
    (found,) = find_filter_rate_alerts(now, {("letters", "exact"): FilterRate(9, 10)})
    assert (found.source, found.baseline_rate) == ("letters", 3 / 200)
    assert "usual is 1.5%, by the other sources. Read the dropped records" in found.reason
    assert find_filter_rate_alerts({("alone", "exact"): FilterRate(90, 100)}, {}) == []


def test_chance_a_small_step_and_a_handful_of_records_say_nothing() -> None:
    usual: FilterRates = {("letters", "minhash"): FilterRate(1000, 10_000)}
    # Sure, and too little; much, and by chance; and too few to be judged.
    for rate in (FilterRate(1250, 10_000), FilterRate(6, 25), FilterRate(19, 19)):
        assert find_filter_rate_alerts({("letters", "minhash"): rate}, usual) == []
    assert find_filter_rate_alerts({("letters", "minhash"): FilterRate(15, 25)}, usual)
    assert find_filter_rate_alerts({("letters", "minhash"): FilterRate(0, 10_000)}, usual) == []


def test_of_a_thousand_generations_without_a_change_at_most_one_in_a_hundred_alarms() -> None:
    rng = np.random.default_rng(7)
    alarms = 0
    for _ in range(1000):
        before, now = _drawn(0.1, 4, rng), _drawn(0.1, 4, rng)
        alarms += bool(find_filter_rate_alerts(now, before))
    # Three standard deviations above ten.
    assert alarms <= 19
