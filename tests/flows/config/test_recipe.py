"""Recipes and sites: loading, overriding, refusing."""

import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from flows.config.loading import apply_overrides, format_validation_error, load_recipe, load_site
from flows.config.recipe import Recipe
from tasks.backends import NgramTraining, TransformerTraining


def test_a_shipped_recipe_is_found_by_its_name() -> None:
    assert load_recipe("anchor").mix.policy == "anchor"


def test_an_override_reaches_its_table() -> None:
    recipe = load_recipe(
        "anchor", ["mix.policy=replace", "num_generations=2", "generate.temperature=0.5", "dataset=letters"]
    )
    assert (recipe.mix.policy, recipe.num_generations, recipe.generate.temperature, recipe.dataset) == (
        "replace",
        2,
        0.5,
        "letters",
    )


def test_the_backend_decides_which_training_settings_there_are() -> None:
    assert isinstance(load_recipe("anchor").train, TransformerTraining)
    assert isinstance(load_recipe("ngram").train, NgramTraining)
    with pytest.raises(ValidationError):
        load_recipe("ngram", ["train.max_steps=10"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("mix.polcy=replace", "mix.polcy is no known key"),
        ("generate.temperature=0", "generate.temperature: Input should be greater than 0 (found 0)"),
        ("mix.policy=fixed-fraction", "Policy 'fixed-fraction' needs `human_fraction`"),
        (
            "train.num_attention_heads=3",
            "train.hidden_size is 128, which must be an even multiple of train.num_attention_heads (3)",
        ),
        ("train.stepz=3", "train.stepz is no known key"),
        ("gate.limits=[{metric='beauty', at_most=2}]", "Unknown metric 'beauty'"),
        ("name=a/b", "name: String should match pattern"),
        ("generate.json_schema={type='rabbit'}", "json_schema is not a valid JSON schema"),
        ("generate.min_tokens=500", "min_tokens is 500, but max_tokens is 120"),
        (
            "curate.filters=['best_of']",
            "the sieve best_of chooses among answers to one prompt: set prompts.completions_per_prompt above 1",
        ),
        ("curate.best_of.objective=beauty", "curate.best_of.objective: Unknown objective 'beauty'"),
        ("generate.teachers=['wise']", "generate.teachers must have two or more"),
        ("generate={teachers=['self', 'wise'], teacher_routing='reward'}", "put best_of among curate.filters"),
        ("generate={teacher='wise', teacher_api='chat'}", "choose another prompts.template_name than unconditional"),
    ],
)
def test_a_wrong_value_is_explained_with_its_path(change: str, said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        load_recipe("anchor", [change])
    assert said in format_validation_error(refused.value)


@pytest.mark.parametrize(
    ("change", "said"), [("generations", "has no value"), ("name.length=3", "name is a value, not a table")]
)
def test_an_override_that_cannot_be_placed_is_refused(change: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load_recipe("anchor", [change])


def test_an_unknown_recipe_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match=r"shipped recipe: .*anchor.*replace"):
        load_recipe("ancor")


def test_a_file_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("name = ")
    with pytest.raises(ValueError, match=r"broken.toml is not TOML"):
        load_recipe(str(tmp_path / "broken.toml"))


def test_resolving_decides_the_sampler_once() -> None:
    recipe = load_recipe("ngram")
    assert recipe.generate.sampler == "auto"
    resolved = recipe.resolve_auto()
    assert resolved.generate.sampler == "ngram"
    assert resolved.resolve_auto(stored=resolved.model_dump(mode="json")) == resolved


def test_a_run_keeps_the_sampler_it_began_with() -> None:
    pytest.importorskip("torch")
    recipe = load_recipe("anchor")
    before = recipe.model_copy(update={"generate": recipe.generate.model_copy(update={"sampler": "transformers"})})
    assert recipe.resolve_auto(stored=before.model_dump(mode="json")).generate.sampler == "transformers"


def test_a_site_is_read_from_its_file_and_the_store_wins(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text('store = "here"\n[resources]\nnum_sample_workers = 3\n')
    site = load_site(str(tmp_path / "site.toml"), None)
    assert (site.store, site.resources.num_sample_workers) == (Path("here"), 3)
    assert load_site(str(tmp_path / "site.toml"), "there").store == Path("there")


def test_an_unknown_site_file_is_refused() -> None:
    with pytest.raises(ValueError, match=r"there is no site file nowhere.toml"):
        load_site("nowhere.toml", None)


def test_an_override_makes_the_tables_it_needs() -> None:
    assert apply_overrides({}, ["a.b.c=1", "a.b.d=x"]) == {"a": {"b": {"c": 1, "d": "x"}}}


def test_a_recipe_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValidationError):
        Recipe(name="fixed").name = "other"  # type: ignore[misc]


def test_a_run_of_the_store_comes_before_a_shipped_recipe_of_its_name_unless_it_is_given_another(store: Path) -> None:
    shutil.copytree(store / "runs/tiny", store / "runs/anchor")
    assert load_recipe("anchor", [], store).mix.policy == "accumulate"
    assert load_recipe("anchor", ["name=other"], store).mix.policy == "anchor"
    assert load_recipe("anchor", ["num_generations=9"], store).dataset == "letters"


def test_a_run_of_the_store_is_a_recipe_too(store: Path) -> None:
    assert load_recipe("tiny", ["num_generations=9"], store).num_generations == 9
    assert load_recipe("tiny", [], store).mix.policy == "accumulate"
    with pytest.raises(ValueError, match=r"or a run of .*: tiny"):
        load_recipe("ghost", [], store)
    with pytest.raises(ValueError, match="there is no recipe tiny"):
        load_recipe("tiny")


def test_a_site_with_a_password_in_an_address_is_refused_without_saying_it(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text('[resources]\nserver_urls = ["https://me:sesame@host"]\n')
    with pytest.raises(ValidationError) as refused:
        load_site(str(file), None)
    assert "URL 1 of server_urls contains a password" in format_validation_error(refused.value)
    assert "sesame" not in format_validation_error(refused.value)


def test_a_schema_is_a_table_of_the_recipe(tmp_path: Path) -> None:
    recipe = load_recipe("anchor", ["generate.json_schema={type = 'object'}"])
    assert recipe.generate.json_schema == '{"type": "object"}'


def test_a_run_masks_nothing() -> None:
    with pytest.raises(ValidationError, match="a run edits no candidate"):
        load_recipe("anchor", ['curate.filters=["pii"]', "curate.pii.action=mask"])


def test_a_search_has_one_answer_to_a_prompt() -> None:
    with pytest.raises(ValidationError, match="a beam search has one answer to a prompt"):
        load_recipe("anchor", ["prompts.completions_per_prompt=3", "generate.beam_width=2"])


def test_answers_can_be_chosen_among_or_all_be_kept() -> None:
    assert load_recipe("anchor", ["prompts.completions_per_prompt=3"]).prompts.completions_per_prompt == 3
    chosen = load_recipe("anchor", ["prompts.completions_per_prompt=3", "curate.filters=['best_of']"])
    assert chosen.curate.best_of.objective == "lexical_diversity"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["prompts.template_name=prefix"], "speaks points, which answer nothing"),
        (["train.order=3"], "train.order is no known key"),
        (["generate.top_p=0.9", "generate.sampler=auto"], "Sampler 'gaussian-mixture' does not support generate.top_p"),
        (["generate.sampler=vllm"], "but train.backend is 'gaussian-mixture'"),
    ],
)
def test_what_points_cannot_do_is_refused(changes: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        load_recipe("points", changes).resolve_auto()
    error = refused.value
    assert said in (format_validation_error(error) if isinstance(error, ValidationError) else str(error))
