"""What a run would do, said before it does it."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from curation.splitting import EvalSetSettings
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.evolve import evolve
from flows.terminal.dry_run import plan
from storage.artifacts.artifact import ArtifactMissingError, DriftError
from tasks.ingestion.eval_sets import add_eval_set
from tasks.orchestration.prefect import without_prefect


def said(recipe: Recipe, site: Site) -> str:
    """The plan as text."""
    out = io.StringIO()
    plan(Console(file=out, width=160), recipe, site)
    return out.getvalue()


def test_a_plan_tells_finished_from_to_make_and_makes_nothing(ingested: Site, recipe: Recipe) -> None:
    before = sorted(ingested.store.rglob("*"))
    assert said(recipe, ingested).count("to make") == 5 + 3 * 7
    assert sorted(ingested.store.rglob("*")) == before
    with without_prefect():
        evolve(recipe.model_copy(update={"num_generations": 1}), ingested)
    text = said(recipe, ingested)
    assert (text.count(" finished"), text.count("to make")) == (5 + 7, 2 * 7)


def test_a_plan_shows_the_chance_that_a_pair_is_compared(ingested: Site, recipe: Recipe) -> None:
    assert "0.7: 0.990" in said(recipe, ingested)


def test_a_plan_says_what_will_be_kept_out(ingested: Site, recipe: Recipe, tmp_path: Path) -> None:
    assert "still to begin: the held-out set\n" in said(recipe, ingested)
    (tmp_path / "exam.txt").write_text("of all the letters that came home that winter only seven were answered")
    with without_prefect():
        add_eval_set(ingested.store, "letters", "exam", [str(tmp_path / "exam.txt")], EvalSetSettings())
    assert "still to begin: the held-out set, exam\n" in said(recipe, ingested)
    measured = recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"eval_sets": ("quiz",)})})
    with pytest.raises(ArtifactMissingError, match=r"There is no eval set 'quiz' of letters\. Eval sets: exam"):
        said(measured, ingested)


def test_a_plan_refuses_what_the_run_would_refuse(ingested: Site, recipe: Recipe) -> None:
    with without_prefect():
        evolve(recipe.model_copy(update={"num_generations": 0}), ingested)
    with pytest.raises(DriftError, match="seed was 0, is now 7"):
        said(recipe.model_copy(update={"seed": 7}), ingested)
    with pytest.raises(ArtifactMissingError, match="There is no dataset 'nobody'"):
        said(recipe.model_copy(update={"dataset": "nobody", "name": "x"}), ingested)


def test_a_plan_says_what_was_asked_for_in_tables_and_lists(ingested: Site, recipe: Recipe) -> None:
    asked = recipe.model_dump(mode="json")
    asked["prompts"] |= {
        "template_name": "prefix",
        "completions_per_prompt": 3,
        "topic_steering": {"num_topics": 5, "encoder": "hashing"},
    }
    asked["generate"] |= {"teachers": ["self", "wise"], "teacher_routing": "routed"}
    asked["curate"] |= {"filters": ["best_of", "exact"], "best_of": {"objective": "distance"}}
    text = said(Recipe.model_validate(asked), ingested)
    assert "answers = 3" in text
    assert "topic_steering = {'num_topics': 5, 'encoder': 'hashing'}" in text
    assert "teachers = ['self', 'wise'], teacher_routing = 'routed'" in text
    assert "filters = ['best_of', 'exact']" in text
    assert "best_of = {'objective': 'distance'}" in text
    assert "minhash = {" not in text


def test_what_was_asked_for_stands_before_what_is_as_usual(ingested: Site, recipe: Recipe) -> None:
    asked = recipe.model_copy(update={"gate": recipe.gate.model_copy(update={"max_retries": 7})})
    assert "[gate] max_retries = 7; as usual: human_fraction_step = 0.1\n" in said(asked, ingested)
    assert "[gate] as usual: human_fraction_step = 0.1, max_retries = 3\n" in said(recipe, ingested)
