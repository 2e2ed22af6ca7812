"""The simulated loop against the closed forms, and one policy against the other."""

import numpy as np
import pytest

from curation.forecast.closed_form import type_presence_at_equilibrium, type_survival
from curation.forecast.simulation import FORECAST_METRICS, ForecastPoint, HumanWords, LoopSpec, simulate_forecast
from curation.metrics.ngram_counts import Counts
from curation.metrics.settings import METRICS
from curation.mixing import MixSettings


def _words(counts: Counts) -> HumanWords:
    return HumanWords(train=counts, sample=counts, num_records=1000)


def _forecast(
    policy: str, last: int = 6, loop: dict[str, float] | None = None, **mix: object
) -> dict[str, list[float]]:
    human = np.round(8000 / np.arange(1, 3001)).astype(np.int64)
    settings = LoopSpec(MixSettings.model_validate({"policy": policy, **mix}), **(loop or {}))
    found: list[ForecastPoint] = simulate_forecast(_words(human), settings, range(last + 1), 0)
    return {name: [one.value for one in found if one.metric == name] for name in FORECAST_METRICS}


def test_every_forecast_metric_is_also_measured() -> None:
    assert set(FORECAST_METRICS) <= set(METRICS)
    assert [len(values) for values in _forecast("replace", 2).values()] == [3] * len(FORECAST_METRICS)


def test_replacement_loses_types_at_the_rate_of_the_closed_form() -> None:
    human = np.round(8000 / np.arange(1, 3001)).astype(np.int64)
    kept = _forecast("replace")["type_coverage"]
    for generation in (1, 3, 6):
        # A generated text is one round of sampling further than the corpus that trained its model.
        assert kept[generation] == pytest.approx(type_survival(human, generation + 1).mean(), abs=0.02)


def test_a_human_share_keeps_the_coverage_of_the_closed_form() -> None:
    human = np.full(2000, 5)
    loop = LoopSpec(MixSettings(policy="fixed-fraction", human_fraction=0.25))
    found = simulate_forecast(_words(human), loop, [40], 0)
    # The generated text is a sample of a corpus in which a word stands with this chance, 5 times at the mean.
    (kept,) = [one.value for one in found if one.metric == "type_coverage"]
    assert kept < type_presence_at_equilibrium(np.array([5]), 0.25)[0] < kept + 0.1


def test_policies_keep_words_in_the_known_order() -> None:
    ends = {
        policy: _forecast(policy, **more)["rare_word_coverage"][-1]
        for policy, more in (
            ("replace", {}),
            ("accumulate-subsample", {}),
            ("fixed-fraction", {"human_fraction": 0.5}),
            ("anchor", {}),
        )
    }
    assert ends["replace"] < ends["accumulate-subsample"] < ends["anchor"]
    assert ends["replace"] < ends["fixed-fraction"]
    accumulated = _forecast("accumulate")["type_coverage"]
    assert accumulated[-1] > 0.9 * accumulated[0]


def test_cold_and_cut_sampling_lose_more_than_warm() -> None:
    warm, cold = (_forecast("accumulate", 4, {"temperature": one})["type_coverage"][-1] for one in (1.0, 0.7))
    cut = _forecast("accumulate", 4, {"top_p": 0.9})["type_coverage"][-1]
    assert cold < 0.7 * warm
    assert cut < warm


def test_the_same_seed_gives_the_same_forecast() -> None:
    assert _forecast("replace", 1) == _forecast("replace", 1)


def test_mixture_weights_are_forecast_as_the_policies_that_they_equal() -> None:
    for same, shares in (
        (_forecast("replace"), [[1.0, 0.0, 0.0]]),
        (_forecast("fixed-fraction", human_fraction=0.5), [[0.5, 0.0, 0.5]]),
    ):
        by_weights = _forecast("mixture", mixture_weights=shares)["type_coverage"]
        assert by_weights == pytest.approx(same["type_coverage"], abs=0.01)
    kept = _forecast("mixture", mixture_weights=[[0.5, 0.5, 0.0]])["type_coverage"][-1]
    assert _forecast("replace")["type_coverage"][-1] < kept
