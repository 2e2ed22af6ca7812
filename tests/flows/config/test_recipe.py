"""Recipes and sites: loading, overrides, and errors."""

import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from flows.config.loading import apply_overrides, load_recipe, load_site
from flows.config.recipe import Recipe
from heirloom.errors import HeirloomError
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
    with pytest.raises(HeirloomError, match=r"Unknown key `train.max_steps`. It belongs to another `train.backend`"):
        load_recipe("ngram", ["train.max_steps=10"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("mix.polcy=replace", "Unknown key `mix.polcy`. Did you mean `mix.policy`?"),
        ("temperature=1", "Unknown key `temperature`. Did you mean `generate.temperature`?"),
        (
            "train.max_stepz=3",
            "Unknown key `train.max_stepz`. Did you mean `train.max_steps`? All keys are in docs/recipe.md.",
        ),
        ("gate.limits=[{metrc='a'}]", "Unknown key `gate.limits.0.metrc`. Did you mean `gate.limits.0.metric`?"),
        ("mix.policy=replce", "`mix.policy` is 'replce', expected 'replace', 'accumulate'"),
        ("mix.policy=replce", "Did you mean `replace`?"),
        ("generate.temperature=0", "`generate.temperature` should be greater than 0, found 0."),
        ("mix.policy=fixed-fraction", "Policy 'fixed-fraction' needs `human_fraction`"),
        (
            "train.num_attention_heads=3",
            "train.hidden_size is 128, which must be an even multiple of train.num_attention_heads (3)",
        ),
        ("train.stepz=3", "Unknown key `train.stepz`."),
        ("gate.limits=[{metric='beauty', at_most=2}]", "Unknown metric 'beauty'. Metrics are "),
        ("gate.limits=[{metric='perplexty', at_most=2}]", "Unknown metric 'perplexty'. Did you mean `perplexity`?"),
        ("name=a/b", "`name` should match pattern"),
        ("generate.json_schema={type='rabbit'}", "json_schema is not a valid JSON schema"),
        ("generate.min_tokens=500", "min_tokens is 500, but max_tokens is 120"),
        (
            "curate.filters=['best_of']",
            "`prompts.completions_per_prompt` is 1. Set it above 1, or remove best_of.",
        ),
        ("generate.teachers=['wise']", "generate.teachers must have two or more"),
        (
            "curate.best_of.objective=beauty",
            "curate.best_of.objective: there is no reward `beauty`. Known names: length",
        ),
        (
            "generate={teachers=['self', 'wise'], teacher_routing='reward'}",
            "`curate.filters` does not contain best_of. Add it",
        ),
        (
            "generate={teacher='wise', teacher_api='chat'}",
            '`prompts.template_name` is "unconditional". Choose another template',
        ),
    ],
)
def test_a_wrong_value_is_explained_with_its_path(change: str, message: str) -> None:
    with pytest.raises(HeirloomError) as error:
        load_recipe("anchor", [change])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [("num_generations", "has no value"), ("name.length=3", "`name` is a value, not a table")],
)
def test_an_override_without_a_value_or_a_table_is_refused(change: str, message: str) -> None:
    with pytest.raises(HeirloomError, match=message):
        load_recipe("anchor", [change])


def test_an_unknown_recipe_is_refused_with_a_suggestion_and_all_names() -> None:
    with pytest.raises(HeirloomError, match=r"Did you mean `anchor`\? .*Shipped recipes: .*anchor.*replace"):
        load_recipe("ancor")


def test_a_file_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("name = ")
    with pytest.raises(ValueError, match=r"broken.toml is not valid TOML"):
        load_recipe(str(tmp_path / "broken.toml"))


def test_resolving_decides_the_sampler_once() -> None:
    recipe = load_recipe("ngram")
    assert recipe.generate.sampler == "auto"
    resolved = recipe.resolve_auto()
    assert resolved.generate.sampler == "ngram"
    assert resolved.resolve_auto(stored=resolved.model_dump(mode="json")) == resolved


@pytest.mark.processes
def test_a_run_keeps_its_stored_sampler() -> None:
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
    with pytest.raises(ValueError, match=r"Site file nowhere.toml does not exist"):
        load_site("nowhere.toml", None)


def test_an_override_makes_the_tables_it_needs() -> None:
    assert apply_overrides({}, ["a.b.c=1", "a.b.d=x"]) == {"a": {"b": {"c": 1, "d": "x"}}}


def test_a_recipe_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValidationError):
        Recipe(name="fixed").name = "other"  # type: ignore[misc]


def test_a_run_wins_over_the_shipped_recipe_of_its_name_unless_the_name_is_overridden(store: Path) -> None:
    shutil.copytree(store / "runs/tiny", store / "runs/anchor")
    assert load_recipe("anchor", [], store).mix.policy == "accumulate"
    assert load_recipe("anchor", ["name=other"], store).mix.policy == "anchor"
    assert load_recipe("anchor", ["num_generations=9"], store).dataset == "letters"


def test_a_run_of_the_store_is_a_recipe_too(store: Path) -> None:
    assert load_recipe("tiny", ["num_generations=9"], store).num_generations == 9
    assert load_recipe("tiny", [], store).mix.policy == "accumulate"
    with pytest.raises(ValueError, match=r"Runs in .*: tiny"):
        load_recipe("ghost", [], store)
    with pytest.raises(ValueError, match="There is no recipe `tiny`"):
        load_recipe("tiny")


def test_a_site_with_a_password_in_an_address_is_refused_without_printing_it(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    for line in (
        '[resources]\nserver_urls = ["https://me:sesame@host"]',
        '[resources]\nserver_urls = ["https://host/?api_key=sesame"]',
        'store_url = "s3://me:sesame@bucket"',
    ):
        file.write_text(line)
        with pytest.raises(HeirloomError, match=r"contains a password") as error:
            load_site(str(file), None)
        assert "sesame" not in str(error.value)
    with pytest.raises(HeirloomError, match=r"contains a password"):
        load_site(None, "s3://me:sesame@bucket")


def test_a_schema_is_a_table_of_the_recipe(tmp_path: Path) -> None:
    recipe = load_recipe("anchor", ["generate.json_schema={type = 'object'}"])
    assert recipe.generate.json_schema == '{"type": "object"}'


def test_a_run_cannot_mask_personal_data() -> None:
    with pytest.raises(HeirloomError, match="a run does not edit candidates"):
        load_recipe("anchor", ['curate.filters=["pii"]', "curate.pii.action=mask"])


def test_beam_search_returns_one_completion_per_prompt() -> None:
    with pytest.raises(HeirloomError, match="beam search returns one completion per prompt"):
        load_recipe("anchor", ["prompts.completions_per_prompt=3", "generate.beam_width=2"])


def test_completions_of_one_prompt_are_all_kept_or_one_is_selected() -> None:
    assert load_recipe("anchor", ["prompts.completions_per_prompt=3"]).prompts.completions_per_prompt == 3
    chosen = load_recipe("anchor", ["prompts.completions_per_prompt=3", "curate.filters=['best_of']"])
    assert chosen.curate.best_of.objective == "lexical_diversity"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["prompts.template_name=prefix"], "generates points without prompts"),
        (["train.order=3"], "Unknown key `train.order`. It belongs to another `train.backend`."),
        (["generate.top_p=0.9", "generate.sampler=auto"], "Sampler 'gaussian-mixture' does not support generate.top_p"),
        (["generate.sampler=vllm"], "but train.backend is 'gaussian-mixture'"),
    ],
)
def test_settings_that_points_do_not_support_are_refused(changes: list[str], message: str) -> None:
    with pytest.raises(HeirloomError) as error:
        load_recipe("points", changes).resolve_auto()
    assert message in str(error.value)


@pytest.mark.parametrize(
    "typed", ["2024", "2024-01-01", "1e5", "007", "null", "true", "0x1f", "inf", "12:30:00", "1_000", "3 # three"]
)
def test_a_text_setting_takes_what_was_typed(typed: str) -> None:
    recipe = load_recipe("ngram", [f"description={typed}", f"generate.teacher={typed}"])
    assert (recipe.description, recipe.generate.teacher) == (typed, typed)


@pytest.mark.parametrize("name", ["../../other/human/x", "/etc", "", ".", "..", "a/b", ".hidden", "a\nb"])
def test_a_dataset_is_a_name_and_no_path(name: str) -> None:
    with pytest.raises(HeirloomError, match="`dataset`"):
        load_recipe("ngram", [f"dataset={name}"])


def test_other_settings_are_typed_as_toml() -> None:
    recipe = load_recipe("ngram", ["seed=7", "train.order=2", 'dataset="quoted"', "generate.stop=['1', 'x']"])
    assert (recipe.seed, recipe.train.model_dump()["order"], recipe.dataset) == (7, 2, "quoted")
    assert recipe.generate.stop == ("1", "x")


def test_a_number_in_a_file_where_text_belongs_gets_quotes_as_advice(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("name = 2024-01-01\ndataset = true\n")
    with pytest.raises(HeirloomError, match=r'quotes: `name = "2024-01-01"`\..*`dataset = "true"`'):
        load_recipe(str(tmp_path / "r.toml"))


@pytest.mark.parametrize("train", [{}, {"learning_rate": 0.01}])
def test_a_train_table_without_a_backend_has_the_default_one(train: dict[str, float]) -> None:
    recipe = Recipe.model_validate({"name": "mine", "train": train})
    assert isinstance(recipe.train, TransformerTraining)
    assert recipe.train == TransformerTraining.model_validate({"backend": "transformer", **train})


def test_a_train_table_without_a_backend_names_its_unknown_keys() -> None:
    with pytest.raises(ValueError, match=r"train\.transformer\.learning_rat|train\.learning_rat"):
        Recipe.model_validate({"name": "mine", "train": {"learning_rat": 0.01}})
