"""The plan of a run, printed before it starts."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from curation.splitting import EvalSetSettings
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.evolve import evolve
from flows.terminal.dry_run import print_plan
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import ArtifactMissingError, DriftError
from tasks.backends import TransformerTraining
from tasks.ingestion.eval_sets import add_eval_set
from tasks.orchestration.prefect import without_prefect


def plan_text(recipe: Recipe, site: Site, show_all: bool = True) -> str:
    """The plan as text."""
    out = io.StringIO()
    print_plan(Console(file=out, width=160), recipe, site, show_all)
    return out.getvalue()


@pytest.mark.processes
def test_a_plan_marks_finished_artifacts_and_writes_nothing(ingested: Site, recipe: Recipe) -> None:
    before = sorted(ingested.store.rglob("*"))
    assert plan_text(recipe, ingested).count("to make") == 5 + 3 * 7
    assert sorted(ingested.store.rglob("*")) == before
    with without_prefect():
        evolve(recipe.model_copy(update={"num_generations": 1}), ingested)
    text = plan_text(recipe, ingested)
    assert (text.count(" finished"), text.count("to make")) == (1 + 5 + 7, 2 * 7)


def test_a_plan_shows_the_probability_that_a_pair_is_compared(ingested: Site, recipe: Recipe) -> None:
    assert "0.7: 0.990" in plan_text(recipe, ingested)


def test_a_plan_names_the_protected_sets(ingested: Site, recipe: Recipe, tmp_path: Path) -> None:
    assert "held-out split: never in prompts or training" in plan_text(recipe, ingested)
    (tmp_path / "exam.txt").write_text("of all the letters that came home that winter only seven were answered")
    with without_prefect():
        add_eval_set(ingested.store, "letters", "exam", [str(tmp_path / "exam.txt")], EvalSetSettings())
    assert "held-out split, exam: never in prompts or training" in plan_text(recipe, ingested)
    measured = recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"eval_sets": ("quiz",)})})
    with pytest.raises(ArtifactMissingError, match=r"There is no eval set 'quiz' of letters\. Eval sets: exam"):
        plan_text(measured, ingested)


@pytest.mark.processes
def test_a_plan_is_refused_like_the_run(ingested: Site, recipe: Recipe) -> None:
    with without_prefect():
        evolve(recipe.model_copy(update={"num_generations": 0}), ingested)
    with pytest.raises(DriftError, match="seed was 0, is now 7"):
        plan_text(recipe.model_copy(update={"seed": 7}), ingested)
    with pytest.raises(
        ArtifactMissingError, match=r"no dataset 'leters' in .*\. Did you mean `letters`\? Datasets: letters\."
    ):
        plan_text(recipe.model_copy(update={"dataset": "leters", "name": "x"}), ingested)
    with pytest.raises(ArtifactMissingError, match="There is no dataset 'absent'"):
        plan_text(recipe.model_copy(update={"dataset": "absent", "name": "x"}), ingested)


@pytest.mark.processes
def test_a_plan_lists_user_code_and_imports_none_of_it(ingested: Site, recipe: Recipe, tmp_path: Path) -> None:
    imported, code = tmp_path / "imported", tmp_path / "mine.py"
    code.write_text(
        f"from curation.decisions import FilterResult\nopen({str(imported)!r}, 'a').write('x')\n"
        "class Keep:\n    needs = ('embeddings',)\n"
        "    def apply(self, records, context):\n        return FilterResult(reason=[''] * len(records))\n"
        "def prompts(records, count, seed):\n    return ['a'] * count\n"
        "def score(texts):\n    return {'score': 1.0}\n"
        "def reward(prompts, texts):\n    return [1.0] * len(texts)\n"
    )
    values = recipe.model_dump(mode="json") | {"num_generations": 1}
    values["prompts"] |= {"template_name": f"{code}:prompts", "completions_per_prompt": 2}
    values["curate"] |= {"filters": ["best_of", f"{code}:Keep"], "best_of": {"objective": f"{code}:reward"}}
    values["evaluate"] |= {"custom_metrics": [f"{code}:score"]}
    with_code = Recipe.model_validate(values)
    text = plan_text(with_code, ingested)
    assert [code.reference.partition(":")[2] for code in with_code.user_code()] == [
        "prompts",
        "Keep",
        "reward",
        "score",
    ]
    settings = ("prompts.template_name", "curate.filters", "curate.best_of.objective", "evaluate.custom_metrics")
    assert [name for name in settings if name in text.split("imported by the run")[1]] == [*settings]
    assert not imported.exists()
    with without_prefect():
        evolve(with_code, ingested)
    assert imported.exists()
    imported.unlink()
    assert "to make" not in plan_text(with_code, ingested)
    assert not imported.exists()


def test_a_plan_and_a_run_with_code_that_is_not_there_are_refused(ingested: Site, recipe: Recipe) -> None:
    values = recipe.model_dump(mode="json")
    values["evaluate"] |= {"custom_metrics": ["absent.py:score"]}
    without_code = Recipe.model_validate(values)
    with pytest.raises(HeirloomError, match=r"evaluate\.custom_metrics: there is no file absent\.py"):
        plan_text(without_code, ingested)
    with without_prefect(), pytest.raises(HeirloomError, match=r"absent\.py in `absent\.py:score` cannot be imported"):
        evolve(without_code, ingested)
    assert not (ingested.store / "runs" / recipe.name).exists()


def test_a_plan_shows_changed_tables_and_lists(ingested: Site, recipe: Recipe) -> None:
    changed = recipe.model_dump(mode="json")
    changed["prompts"] |= {
        "template_name": "prefix",
        "completions_per_prompt": 3,
        "topic_steering": {"num_topics": 5, "encoder": "hashing"},
    }
    changed["generate"] |= {"teachers": ["self", "wise"], "teacher_routing": "routed"}
    changed["curate"] |= {"filters": ["best_of", "exact"], "best_of": {"objective": "distance"}}
    text = plan_text(Recipe.model_validate(changed), ingested)
    assert "completions_per_prompt = 3" in text
    assert "topic_steering = {'num_topics': 5, 'encoder': 'hashing'}" in text
    assert "teachers = ['self', 'wise'], teacher_routing = 'routed'" in text
    assert "filters = ['best_of', 'exact']" in text
    assert "best_of = {'objective': 'distance'}" in text
    assert "minhash = {" not in text


def test_a_plan_counts_the_values_of_a_long_attribute(ingested: Site, recipe: Recipe) -> None:
    personas = [f"person {number}" for number in range(12_000)]
    values = recipe.model_dump(mode="json")
    values["prompts"] |= {"template_name": "persona", "attributes": {"persona": personas}}
    text = plan_text(Recipe.model_validate(values), ingested)
    assert "attributes = {'persona': (12,000 values)}" in text
    assert len(text) < 10_000


def test_changed_settings_come_before_defaults(ingested: Site, recipe: Recipe) -> None:
    changed = recipe.model_copy(update={"gate": recipe.gate.model_copy(update={"max_retries": 7})})
    assert "[gate] max_retries = 7; defaults: human_fraction_step = 0.1\n" in plan_text(changed, ingested)
    assert "[gate] defaults: human_fraction_step = 0.1, max_retries = 3\n" in plan_text(recipe, ingested)


def test_a_plan_shows_what_the_preset_sets_apart_from_what_the_recipe_sets(ingested: Site, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    train = TransformerTraining(base_model=str(tmp_path / "base"), init_from="base", batch_size=4)
    text = plan_text(Recipe(name="tuned", dataset="letters", train=train), ingested)
    (line,) = [line for line in text.splitlines() if line.startswith("[train]")]
    changed, _, rest = line.partition("; preset full-finetune: ")
    preset, _, _ = rest.partition("; defaults: ")
    assert "batch_size = 4" in changed
    assert "learning_rate" not in changed
    assert preset == (
        "num_epochs = 2.0, context_length = 0, packing = False, optimizer = 'adamw', learning_rate = 2e-05, "
        "lr_scheduler = 'linear', warmup_ratio = 0.03, weight_decay = 0.0, adam_beta2 = 0.999, "
        "gradient_checkpointing = True"
    )


def test_a_short_plan_has_no_default_and_the_whole_one_has_all(ingested: Site, recipe: Recipe) -> None:
    changed = recipe.model_copy(update={"gate": recipe.gate.model_copy(update={"max_retries": 7})})
    short = plan_text(changed, ingested, show_all=False)
    names = ["run", "data", "protected", "generations", "model", "filters", "mix", "changed", "tokens", "time"]
    assert [line.split()[0] for line in short.splitlines()][: len(names)] == names
    assert "gate.max_retries = 7" in short
    assert "human_fraction_step" not in short
    assert "human_fraction_step" in plan_text(changed, ingested)


@pytest.mark.processes
def test_a_short_plan_shows_where_a_run_continues(ingested: Site, recipe: Recipe) -> None:
    assert "0 to 3: none is finished" in plan_text(recipe, ingested, show_all=False)
    with without_prefect():
        evolve(recipe.model_copy(update={"num_generations": 1}), ingested)
    text = plan_text(recipe, ingested, show_all=False)
    assert "0 to 3: 2 finished; continues with generation 2" in text
    assert "from 2 earlier generations in this store" in text
    finished = plan_text(recipe.model_copy(update={"num_generations": 1}), ingested, show_all=False)
    assert "0 to 1: all are finished, so nothing is to do" in finished


def test_prices_of_the_site_give_the_price_of_a_run(ingested: Site, recipe: Recipe) -> None:
    assert "price" not in plan_text(recipe, ingested)
    resources = ingested.resources.model_copy(update={"price_per_million_tokens": 1e6})
    text = plan_text(recipe, ingested.model_copy(update={"resources": resources}))
    lines = dict(line.split(maxsplit=1) for line in text.splitlines() if line.startswith(("tokens", "price")))
    tokens = lines["tokens"].split()[1]
    assert lines["price"].strip() == f"about {tokens}.00"
