"""The printed forecast: metrics by generation, the human share of a goal, and the cost."""

from pathlib import Path

import pytest
from rich.console import Console

from curation.forecast.simulation import FORECAST_METRICS
from flows.config.loading import load_recipe
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.terminal.forecast import ForecastGoal, parse_share, print_forecast
from tasks.evaluation.forecast import loop_spec

_GOAL = ForecastGoal(min_coverage=0.95, word_count=5, generations=10)


def _output(recipe: Recipe, site: Site, goal: ForecastGoal = _GOAL, plot: Path | None = None, width: int = 250) -> str:
    console = Console(record=True, width=width)
    print_forecast(console, recipe, site, goal, plot)
    return console.export_text()


@pytest.mark.slow
def test_a_recipe_is_forecast_before_it_runs(ingested: Site, recipe: Recipe, tmp_path: Path) -> None:
    cold = recipe.model_copy(update={"generate": recipe.generate.model_copy(update={"temperature": 0.5})})
    output = _output(cold, ingested, plot=tmp_path / "future.png")
    assert "Sampling is biased" in output
    assert "95% of the words that occur 5 times in the human text survive" in output and "for 10 generations" in output
    assert "so the time is unknown" in output
    assert (tmp_path / "future.png").read_bytes().startswith(b"\x89PNG")
    assert not (ingested.store / "runs").exists()


def test_every_column_name_is_complete_in_eighty_columns(ingested: Site, recipe: Recipe) -> None:
    lines = _output(recipe, ingested, width=80).splitlines()
    heads = lines[: 1 + next(at for at, line in enumerate(lines) if line.startswith("generation"))][1:]
    assert sorted(" ".join(heads).split()) == sorted(
        ["generation", *" ".join(FORECAST_METRICS).replace("_", " ").split()]
    )


def test_time_is_estimated_from_runs_of_the_store(finished_store: Path) -> None:
    output = _output(load_recipe("tiny", [], finished_store), Site(store=finished_store))
    assert "at the median speed of 4 generations in this store" in output
    assert "Sampling is biased" not in output


def test_models_of_another_size_give_no_estimate_of_time(finished_store: Path) -> None:
    other = load_recipe("tiny", ["train.order=2"], finished_store)
    assert "has trained such a model, so the time is unknown" in _output(other, Site(store=finished_store))


def _tokens(recipe: Recipe, site: Site) -> int:
    return int(_output(recipe, site).split(" to generate and ")[1].split(" tokens")[0].replace(",", ""))


@pytest.mark.slow
def test_tokens_follow_from_steps_maximum_or_epochs(ingested: Site) -> None:
    def tokens(**train: object) -> int:
        values = {"name": "x", "dataset": "letters", "num_generations": 3, "prompts": {"prompts_per_human_record": 2}}
        return _tokens(Recipe.model_validate({**values, "train": {"backend": "transformer", **train}}), ingested)

    assert tokens(max_steps=10, generation_0_max_steps=5, batch_size=4, context_length=32) == (5 + 3 * 10) * 4 * 32
    assert tokens(max_tokens=1000) == 4 * 1000
    # Policy anchor: generation 0 has the human records, each later one has also two candidates per record.
    assert abs(tokens(num_epochs=4) - 4 * tokens(num_epochs=1)) <= 4
    human = _tokens(
        Recipe.model_validate({"name": "x", "dataset": "letters", "num_generations": 0, "train": {"backend": "ngram"}}),
        ingested,
    )
    assert abs(tokens(num_epochs=1) - (1 + 3 * 3) * human) <= 10


@pytest.mark.parametrize(
    ("temperature", "top_p", "text"),
    [(0.5, 1, "each generation narrows"), (1, 0.9, "narrows"), (1.3, 1, "spreads"), (1.3, 0.9, "changes")],
)
def test_the_bias_of_sampling_is_named(
    ingested: Site, recipe: Recipe, temperature: float, top_p: float, text: str
) -> None:
    sampling = recipe.generate.model_copy(update={"temperature": temperature, "top_p": top_p})
    assert text in _output(recipe.model_copy(update={"generate": sampling}), ingested)


def test_an_unreachable_goal_is_reported(ingested: Site, recipe: Recipe) -> None:
    assert "No human share reaches it: A type with expected count 1 is in a human sample" in _output(
        recipe, ingested, ForecastGoal(min_coverage=0.9, word_count=1, generations=10)
    )


def test_nothing_ingested_is_an_error(tmp_path: Path, recipe: Recipe) -> None:
    with pytest.raises(ValueError, match="There is no dataset 'letters'"):
        _output(recipe, Site(store=tmp_path))


@pytest.mark.parametrize(("text", "share"), [("95%", 0.95), ("0.5", 0.5)])
def test_a_share_is_a_fraction_or_a_percentage(text: str, share: float) -> None:
    assert parse_share(text) == share


@pytest.mark.parametrize("text", ["95", "0", "100%", "many", "", "nan"])
def test_other_text_than_a_share_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a fraction between 0 and 1"):
        parse_share(text)


def test_the_loop_spec_has_the_settings_of_the_recipe(recipe: Recipe) -> None:
    assert loop_spec(recipe).mix == recipe.mix
    assert loop_spec(recipe).temperature == recipe.generate.temperature
