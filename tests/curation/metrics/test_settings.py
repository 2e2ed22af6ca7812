import pytest
from pydantic import ValidationError

from curation.metrics.settings import METRICS, TEMPERATURES, EvalSettings
from tests.support.paths import ROOT


def test_the_first_temperature_is_the_model_as_it_is() -> None:
    assert TEMPERATURES[0] == 1.0
    assert len(set(TEMPERATURES)) == len(TEMPERATURES)


def test_every_metric_has_a_name_of_its_own() -> None:
    assert len(set(METRICS)) == len(METRICS)


@pytest.mark.parametrize("wrong", [{"num_samples": 9}, {"vocab_sample_words": 99}, {"words": 500}])
def test_wrong_settings_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        EvalSettings.model_validate(wrong)


def test_every_metric_is_documented() -> None:
    page = (ROOT / "docs/metrics.md").read_text()
    assert [name for name in METRICS if f"`{name}`" not in page] == []
