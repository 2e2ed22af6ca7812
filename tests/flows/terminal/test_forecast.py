"""The forecast as a person reads it: by generation, the share a goal takes, and what it will cost."""

from pathlib import Path

import pytest
from rich.console import Console

from curation.forecast.simulation import FORECAST_METRICS
from flows.config.loading import load_recipe
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.terminal.forecast import parse_share, print_forecast


def _said(
    recipe: Recipe, site: Site, keep: float = 0.95, seen: int = 5, picture: Path | None = None, width: int = 250
) -> str:
    console = Console(record=True, width=width)
    print_forecast(console, recipe, site, keep, seen, 10, picture)
    return console.export_text()


def test_a_recipe_is_foretold_before_anything_is_made(ingested: Site, recipe: Recipe, tmp_path: Path) -> None:
    cold = recipe.model_copy(update={"generate": recipe.generate.model_copy(update={"temperature": 0.5})})
    said = _said(cold, ingested, picture=tmp_path / "future.png")
    assert "sampling is biased" in said
    assert "to keep 95% of the words that people say 5 times" in said and "for 10 generations" in said
    assert "so no time can be told" in said
    assert (tmp_path / "future.png").read_bytes().startswith(b"\x89PNG")
    assert not (ingested.store / "runs").exists()


def test_every_column_has_its_whole_name_in_eighty_columns(ingested: Site, recipe: Recipe) -> None:
    lines = _said(recipe, ingested, width=80).splitlines()
    heads = lines[: 1 + next(at for at, line in enumerate(lines) if line.startswith("generation"))][1:]
    assert sorted(" ".join(heads).split()) == sorted(
        ["generation", *" ".join(FORECAST_METRICS).replace("_", " ").split()]
    )


def test_time_is_told_by_what_the_store_has_seen(finished_store: Path) -> None:
    said = _said(load_recipe("tiny", [], finished_store), Site(store=finished_store))
    assert "at the pace of 4 generations of this store" in said
    assert "sampling is biased" not in said


def test_a_model_of_another_size_tells_no_time(finished_store: Path) -> None:
    """No run of the store is by a transformer, and an n-gram of another order is another model."""
    other = load_recipe("tiny", ["train.order=2"], finished_store)
    assert "has trained such a model yet, so no time can be told" in _said(other, Site(store=finished_store))


def _tokens(recipe: Recipe, site: Site) -> int:
    return int(_said(recipe, site).split(" to speak and ")[1].split(" to learn")[0].replace(",", ""))


def test_tokens_are_those_of_the_steps_the_budget_or_the_passes(ingested: Site) -> None:
    def tokens(**train: object) -> int:
        asked = {"name": "x", "dataset": "letters", "num_generations": 3, "prompts": {"prompts_per_human_record": 2}}
        return _tokens(Recipe.model_validate({**asked, "train": {"backend": "transformer", **train}}), ingested)

    assert tokens(max_steps=10, generation_0_max_steps=5, batch_size=4, context_length=32) == (5 + 3 * 10) * 4 * 32
    assert tokens(max_tokens=1000) == 4 * 1000
    # Anchor: generation 0 has the human records, each later one these and two candidates for each.
    assert abs(tokens(num_epochs=4) - 4 * tokens(num_epochs=1)) <= 4
    human = _tokens(
        Recipe.model_validate({"name": "x", "dataset": "letters", "num_generations": 0, "train": {"backend": "ngram"}}),
        ingested,
    )
    assert abs(tokens(num_epochs=1) - (1 + 3 * 3) * human) <= 10


@pytest.mark.parametrize(
    ("temperature", "top_p", "said"),
    [(0.5, 1, "every round narrows"), (1, 0.9, "narrows"), (1.3, 1, "spreads"), (1.3, 0.9, "changes")],
)
def test_the_bias_of_sampling_is_named(
    ingested: Site, recipe: Recipe, temperature: float, top_p: float, said: str
) -> None:
    sampling = recipe.generate.model_copy(update={"temperature": temperature, "top_p": top_p})
    assert said in _said(recipe.model_copy(update={"generate": sampling}), ingested)


def test_a_goal_that_nothing_reaches_is_said_to_be_one(ingested: Site, recipe: Recipe) -> None:
    assert "no human share does it; a type expected 1 times is in a human sample" in _said(recipe, ingested, 0.9, 1)


def test_nothing_ingested_is_an_error(tmp_path: Path, recipe: Recipe) -> None:
    with pytest.raises(ValueError, match="There is no dataset 'letters'"):
        _said(recipe, Site(store=tmp_path))


@pytest.mark.parametrize(("text", "share"), [("95%", 0.95), ("0.5", 0.5)])
def test_a_share_is_written_either_way(text: str, share: float) -> None:
    assert parse_share(text) == share


@pytest.mark.parametrize("text", ["95", "0", "100%", "many", "", "nan"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no share between 0 and 1"):
        parse_share(text)
