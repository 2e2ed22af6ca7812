from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from curation.mixing import MixIndices, MixPools, MixSettings, Strata, draw_mix
from curation.selection.apportionment import largest_remainder


def _draw(
    settings: MixSettings, num_human: int, num_newest: int, num_earlier: int, seed: int, **more: Any
) -> MixIndices:
    pools = MixPools(num_human=num_human, num_newest=num_newest, num_earlier=num_earlier, **more)
    return draw_mix(settings, pools, np.random.default_rng(seed))


def _rows(mix: MixIndices) -> tuple[list[int], list[int], list[int]]:
    return mix.human.tolist(), mix.newest.tolist(), mix.earlier.tolist()


def test_replace_takes_only_the_newest_survivors() -> None:
    mix = _draw(MixSettings(policy="replace"), 5, 3, 4, seed=0)
    assert _rows(mix) == ([], [0, 1, 2], [])
    assert mix.human_fraction == 0


def test_accumulate_takes_everything() -> None:
    mix = _draw(MixSettings(policy="accumulate"), 5, 3, 2, seed=0)
    assert _rows(mix) == ([0, 1, 2, 3, 4], [0, 1, 2], [0, 1])
    assert mix.human_fraction == 0.5


def test_anchor_takes_every_human_record_and_the_newest_survivors() -> None:
    mix = _draw(MixSettings(), 3, 2, 9, seed=0)
    assert _rows(mix) == ([0, 1, 2], [0, 1], [])
    assert mix.human_fraction == 0.6


@given(
    st.integers(0, 60), st.integers(0, 60), st.integers(1, 60), st.floats(0, 1), st.integers(0, 3), st.integers(0, 9)
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_fixed_fraction_is_exact_to_the_record_or_refused(
    human: int, newest: int, records: int, fraction: float, earlier: int, seed: int
) -> None:
    mix_settings = MixSettings(policy="fixed-fraction", human_fraction=fraction, num_records=records)
    num_human = round(records * fraction)
    if num_human > human or records - num_human > newest:
        with pytest.raises(ValueError, match="The mix requires"):
            _draw(mix_settings, human, newest, earlier, seed)
        return
    mix = _draw(mix_settings, human, newest, earlier, seed)
    assert (len(mix.human), len(mix.newest), len(mix.earlier)) == (num_human, records - num_human, 0)
    for rows, available in ((mix.human, human), (mix.newest, newest)):
        assert np.all(np.diff(rows) > 0)
        assert not len(rows) or (rows[0] >= 0 and rows[-1] < available)


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30), st.integers(1, 60), st.integers(0, 9))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_accumulate_subsample_draws_its_size_from_the_pool_or_is_refused(
    human: int, newest: int, earlier: int, records: int, seed: int
) -> None:
    mix_settings = MixSettings(policy="accumulate-subsample", num_records=records)
    if records > human + newest + earlier:
        with pytest.raises(ValueError, match="records in the pool"):
            _draw(mix_settings, human, newest, earlier, seed)
        return
    mix = _draw(mix_settings, human, newest, earlier, seed)
    assert sum(len(rows) for rows in _rows(mix)) == records
    for rows, available in zip(_rows(mix), (human, newest, earlier), strict=True):
        assert rows == sorted(set(rows))
        assert set(rows) <= set(range(available))


@given(st.lists(st.sampled_from("abc"), max_size=60), st.integers(1, 40), st.floats(0, 1), st.integers(0, 9), st.data())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_quotas_of_human_records_are_exact_or_refused_by_name(
    sources: list[str], records: int, fraction: float, seed: int, data: st.DataObject
) -> None:
    parts = data.draw(st.lists(st.integers(1, 9), min_size=3, max_size=3))
    shares = {source: part / sum(parts) for source, part in zip("abc", parts, strict=True)}
    mix_settings = MixSettings(
        policy="fixed-fraction", human_fraction=fraction, num_records=records, human_source_shares=shares
    )
    num_human = round(records * fraction)
    wanted, available = largest_remainder(num_human, shares), Counter(sources)
    if num_human > len(sources):
        with pytest.raises(
            ValueError, match=f"requires {num_human} human records, but only {len(sources)} are available"
        ):
            _draw(mix_settings, len(sources), 60, 0, seed, human_sources=sources)
        return
    if short := [source for source, count in wanted.items() if count > available[source]]:
        named = f"requires {wanted[short[0]]} human records of source {short[0]}, but only {available[short[0]]} are"
        with pytest.raises(ValueError, match=named):
            _draw(mix_settings, len(sources), 60, 0, seed, human_sources=sources)
        return
    mix = _draw(mix_settings, len(sources), 60, 0, seed, human_sources=sources)
    assert Counter(sources[row] for row in mix.human) == Counter(wanted)
    assert (len(mix.human), len(mix.newest)) == (num_human, records - num_human)
    assert np.all(np.diff(mix.human) > 0)
    assert _rows(mix) == _rows(_draw(mix_settings, len(sources), 60, 0, seed, human_sources=sources))


def test_proportional_shares_are_those_of_the_human_records() -> None:
    sources = ["letters"] * 70 + ["wiki"] * 30
    mix_settings = MixSettings(
        policy="fixed-fraction", human_fraction=0.5, num_records=50, human_source_shares="proportional"
    )
    mix = _draw(mix_settings, 100, 100, 0, 3, human_sources=sources)
    assert Counter(sources[row] for row in mix.human) == {"letters": 18, "wiki": 7}


def test_a_subsample_of_the_size_of_the_pool_is_the_pool() -> None:
    mix = _draw(MixSettings(policy="accumulate-subsample", num_records=9), 4, 3, 2, seed=5)
    assert _rows(mix) == ([0, 1, 2, 3], [0, 1, 2], [0, 1])


def test_every_record_of_the_pool_is_drawn_equally_often() -> None:
    mix_settings = MixSettings(policy="accumulate-subsample", num_records=5)
    times = np.zeros(20)
    for seed in range(1000):
        mix = _draw(mix_settings, 8, 7, 5, seed)
        for rows, start in zip(_rows(mix), (0, 8, 15), strict=True):
            times[np.array(rows, np.int64) + start] += 1
    # 1000 draws at probability 1/4 each: four standard deviations are 55.
    assert np.abs(times - 250).max() < 55


@pytest.mark.parametrize("policy", ["fixed-fraction", "accumulate-subsample"])
def test_the_default_size_is_the_number_of_human_records(policy: str) -> None:
    fraction = 0.5 if policy == "fixed-fraction" else None
    mix = _draw(MixSettings.model_validate({"policy": policy, "human_fraction": fraction}), 10, 30, 30, seed=1)
    assert sum(len(rows) for rows in _rows(mix)) == 10


@pytest.mark.parametrize(("fraction", "human"), [(0.0, 0), (0.3, 3), (1.0, 10)])
def test_the_human_fraction_is_exact(fraction: float, human: int) -> None:
    mix = _draw(MixSettings(policy="fixed-fraction", human_fraction=fraction, num_records=10), 10, 10, 0, seed=0)
    assert len(mix.human) == human
    assert mix.human_fraction == fraction


def test_the_draw_depends_on_the_seed_only() -> None:
    mix_settings = MixSettings(policy="fixed-fraction", human_fraction=0.5, num_records=20)
    first, again, other = (_draw(mix_settings, 100, 100, 0, seed) for seed in (1, 1, 2))
    assert _rows(first) == _rows(again)
    assert _rows(first) != _rows(other)


def test_a_refusal_names_the_required_and_the_available_records() -> None:
    mix_settings = MixSettings(policy="fixed-fraction", human_fraction=0.5, num_records=20)
    with pytest.raises(ValueError, match="requires 10 survivors, but only 4 are available"):
        _draw(mix_settings, 100, 4, 50, seed=0)
    with pytest.raises(ValueError, match="requires 10 human records, but only 9 are available"):
        _draw(mix_settings, 9, 100, 0, seed=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"policy": "fixed-fraction"},
        {"policy": "anchor", "human_fraction": 0.5},
        {"policy": "replace", "num_records": 10},
        {"policy": "accumulate", "num_records": 10},
        {"policy": "fixed-fraction", "human_fraction": 1.5},
        {"policy": "accumulate-subsample", "num_records": 0},
        {"policy": "forget"},
        {"share": 0.5},
        {"policy": "anchor", "human_source_shares": "proportional"},
        {"policy": "fixed-fraction", "human_fraction": 0.5, "human_source_shares": {"a": 0.5}},
        {"policy": "mixture"},
        {"policy": "anchor", "mixture_weights": [[1.0, 0.0, 0.0]]},
        {"policy": "mixture", "mixture_weights": []},
        {"policy": "mixture", "mixture_weights": [[0.5, 0.4, 0.0]]},
        {"policy": "mixture", "mixture_weights": [[1.5, -0.5, 0.0]]},
        {"policy": "fixed-fraction", "human_fraction": 0.5, "human_source_shares": "by-heart"},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        MixSettings.model_validate(wrong)


def test_an_empty_mix_has_a_human_fraction_of_0() -> None:
    assert _draw(MixSettings(policy="replace"), 5, 0, 0, seed=0).human_fraction == 0


def test_stratified_survivors_have_the_shares_of_human_records() -> None:
    mix_settings = MixSettings(policy="fixed-fraction", human_fraction=0.0, num_records=10, stratify_by="source")
    human, newest = np.array(["a"] * 5 + ["b"] * 5), np.array(["a"] * 40 + ["b"] * 5 + ["c"] * 9)
    for seed in range(3):
        taken = _draw(mix_settings, 10, 54, 0, seed, strata=Strata(human, newest)).newest
        assert Counter(newest[taken].tolist()) == {"a": 5, "b": 5}
        assert len(set(taken.tolist())) == 10
    short = np.array(["a"] * 40 + ["b"] * 2)
    taken = _draw(mix_settings, 10, 42, 0, 0, strata=Strata(human, short)).newest
    assert Counter(short[taken].tolist()) == {"a": 8, "b": 2}


def test_strata_belong_to_a_fixed_size() -> None:
    with pytest.raises(ValidationError, match="`stratify_by` applies to policy 'fixed-fraction' only"):
        MixSettings(policy="replace", stratify_by="source")


@given(
    st.integers(1, 40), st.integers(0, 40), st.sets(st.integers(0, 19)), st.sets(st.integers(0, 9)), st.integers(0, 10)
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_shares_are_exact_to_the_record_without_any_twice_or_refused(
    records: int, newest: int, again: set[int], earlier: set[int], tenths: int
) -> None:
    triple = (tenths / 10, (10 - tenths) // 2 / 10, (10 - tenths - (10 - tenths) // 2) / 10)
    mix_settings = MixSettings(policy="mixture", mixture_weights=(triple,), num_records=records)
    wanted = largest_remainder(records, dict(zip("npo", triple, strict=True)))
    last = (np.array(sorted(again), np.int64), np.array(sorted(earlier), np.int64))
    available = len(earlier) + max(0, len(again) - wanted["o"])
    if wanted["n"] > newest or wanted["o"] > 20 or wanted["p"] > len(again) + len(earlier):
        with pytest.raises(ValueError, match="The mix requires"):
            _draw(mix_settings, 20, newest, 10, 3, last_human=last[0], last_earlier=last[1])
        return
    if wanted["p"] > available:
        # Whether enough are left depends on the human records that were drawn.
        return
    mix = _draw(mix_settings, 20, newest, 10, 3, last_human=last[0], last_earlier=last[1])
    assert len(mix.newest) == wanted["n"]
    assert len(mix.human) + len(mix.earlier) == wanted["o"] + wanted["p"]
    assert len(mix.human) >= wanted["o"]
    assert set(mix.earlier.tolist()) <= earlier
    for rows in (mix.human, mix.newest, mix.earlier):
        assert np.all(np.diff(rows) > 0)


def test_each_generation_can_have_its_own_weights_and_the_last_ones_remain() -> None:
    mix_settings = MixSettings(policy="mixture", mixture_weights=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)), num_records=4)
    last = (np.array([5]), np.array([0, 1, 2, 7]))
    assert _rows(_draw(mix_settings.for_generation(1), 9, 4, 8, 0, last_human=last[0], last_earlier=last[1])) == (
        [],
        [0, 1, 2, 3],
        [],
    )
    for generation in (2, 7):
        human, newest, earlier = _rows(
            _draw(mix_settings.for_generation(generation), 9, 4, 8, 0, last_human=last[0], last_earlier=last[1])
        )
        assert (set(human) <= {5}, newest, set(earlier) <= {0, 1, 2, 7}) == (True, [], True)
        assert len(human) + len(earlier) == 4
    assert MixSettings().for_generation(3) == MixSettings()


def test_unset_mixture_weights_are_not_part_of_the_fingerprint() -> None:
    assert "mixture_weights" not in MixSettings().model_dump(mode="json")
    mix_settings = MixSettings(policy="mixture", mixture_weights=((0.5, 0.25, 0.25),))
    assert MixSettings.model_validate(mix_settings.model_dump(mode="json")) == mix_settings
