"""Whether a sieve drops more of a source than it usually does."""

import numpy as np

from curation.metrics.filter_rates import Toll, Tolls, find_heavy_tolls


def _drawn(share: float, sources: int, dice: np.random.Generator) -> dict[tuple[str, str], Toll]:
    stages = ("exact", "minhash", "semantic")
    return {
        (f"source-{number}", stage): Toll(int(dice.binomial(200, share)), 200)
        for number in range(sources)
        for stage in stages
    }


def test_a_source_that_loses_more_than_before_is_named_with_both_shares_and_what_to_do() -> None:
    before = {("letters", "minhash"): Toll(12, 600), ("wiki", "minhash"): Toll(15, 600)}
    now = {("letters", "minhash"): Toll(70, 200), ("wiki", "minhash"): Toll(6, 200)}
    (found,) = find_heavy_tolls(now, before)
    assert (found.source, found.stage, found.dropped, found.looked_at, found.usual) == (
        "letters",
        "minhash",
        70,
        200,
        0.02,
    )
    assert found.reason == (
        "minhash dropped 35.0% of letters (70 of 200); usual is 2.0%, by earlier generations: "
        "if what they share is the prompt's words, change its template, or mask them by minhash.mask_common"
    )


def test_where_nothing_went_before_the_other_sources_together_say_what_is_usual() -> None:
    now = {("letters", "exact"): Toll(40, 100), ("wiki", "exact"): Toll(2, 100), ("", "exact"): Toll(1, 100)}
    (found,) = find_heavy_tolls(now, {("letters", "exact"): Toll(9, 10)})
    assert (found.source, found.usual) == ("letters", 3 / 200)
    assert "usual is 1.5%, by the other sources: look at what it dropped" in found.reason
    assert find_heavy_tolls({("alone", "exact"): Toll(90, 100)}, {}) == []


def test_chance_a_small_step_and_a_handful_of_records_say_nothing() -> None:
    usual: Tolls = {("letters", "minhash"): Toll(1000, 10_000)}
    # Sure, and too little; much, and by chance; and too few to be judged.
    for toll in (Toll(1250, 10_000), Toll(6, 25), Toll(19, 19)):
        assert find_heavy_tolls({("letters", "minhash"): toll}, usual) == []
    assert find_heavy_tolls({("letters", "minhash"): Toll(15, 25)}, usual)
    assert find_heavy_tolls({("letters", "minhash"): Toll(0, 10_000)}, usual) == []


def test_of_a_thousand_generations_without_a_change_at_most_one_in_a_hundred_alarms() -> None:
    dice = np.random.default_rng(7)
    alarms = 0
    for _ in range(1000):
        before, now = _drawn(0.1, 4, dice), _drawn(0.1, 4, dice)
        alarms += bool(find_heavy_tolls(now, before))
    # Three standard deviations above ten.
    assert alarms <= 19
