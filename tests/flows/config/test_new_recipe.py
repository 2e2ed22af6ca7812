"""The first recipe for somebody's own text."""

import tomllib
from pathlib import Path

import pytest

from flows.config.loading import load_recipe, load_site
from flows.config.new_recipe import NewRecipe, default_name, write_recipe
from flows.config.recipe import Recipe
from heirloom.errors import HeirloomError
from tasks.ingestion.sample import SourceSample


def _new(model: str, shape: str = "", median_chars: int = 100, **given: str) -> NewRecipe:
    sample = SourceSample(
        num_sampled=9, num_files=1, text_column="text", other_columns=(), shape=shape, median_chars=median_chars
    )
    return NewRecipe(name="letters", source="letters.jsonl", sample=sample, model=model, **given)


@pytest.mark.parametrize("shape", ["", "OpenAI messages"])
@pytest.mark.parametrize("model", ["small", "ngram", "smollm2", 'a "folder" \\ of mine'])
def test_a_written_recipe_is_valid(tmp_path: Path, model: str, shape: str) -> None:
    if shape and model in ("small", "ngram"):
        with pytest.raises(HeirloomError, match="cannot learn to answer"):
            _new(model, shape)
        return
    (path,) = write_recipe(_new(model, shape), tmp_path)
    recipe = load_recipe(str(path))
    assert (recipe.name, recipe.dataset) == ("letters", "letters")
    assert recipe.curate.filters
    train = recipe.train.model_dump()
    assert train.get("base_model", "") == ("" if model in ("small", "ngram") else model)
    assert (train.get("objective") == "sft") is bool(shape)


def test_comments_name_only_settings_that_exist(tmp_path: Path) -> None:
    text = _new("small").to_toml()
    for comment, setting in (("# limits = ", "limits"), ("# base_model = ", "base_model")):
        (line,) = [line for line in text.splitlines() if line.startswith(comment)]
        assert setting in tomllib.loads(line.removeprefix("# "))
    limits = tomllib.loads(next(line[2:] for line in text.splitlines() if line.startswith("# limits")))
    values = load_recipe(str(write_recipe(_new("ngram"), tmp_path)[0])).model_dump(mode="json")
    assert Recipe.model_validate(values | {"gate": limits}).gate.limits[0].action == "stop"


def test_a_teacher_needs_its_server_and_gets_a_site_file(tmp_path: Path) -> None:
    with pytest.raises(HeirloomError, match="belong together"):
        _new("small", teacher="wise")
    new = _new("small", teacher="wise", server="http://localhost:8000")
    recipe_path, site_path = write_recipe(new, tmp_path)
    assert load_recipe(str(recipe_path)).generate.teacher == "wise"
    assert load_site(str(site_path), None).resources.server_urls == ("http://localhost:8000",)
    assert all(f"--site {site_path}" in line for line in new.next_commands(tmp_path) if "show" not in line)


def test_long_documents_are_split_into_passages_and_conversations_are_not() -> None:
    assert _new("small", median_chars=5000).ingest_words()[-1] == "passage_length_chars=[80,400]"
    assert _new("smollm2", median_chars=5000).ingest_words()[-1] == "passage_length_chars=[200,4000]"
    assert _new("smollm2", median_chars=3000).ingest_words() == ["letters.jsonl", "--name", "letters"]
    assert _new("smollm2", "OpenAI messages", 5000).ingest_words() == ["letters.jsonl", "--name", "letters"]


def test_no_file_is_overwritten(tmp_path: Path) -> None:
    write_recipe(_new("small"), tmp_path)
    with pytest.raises(HeirloomError, match=r"letters\.toml exists"):
        write_recipe(_new("ngram"), tmp_path)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/mail/My Letters.jsonl.gz", "my-letters"),
        ("notes/", "notes"),
        ("hf:stanfordnlp/imdb?split=train", "imdb"),
        ("python-docs", "python-docs"),
        ("**/*.txt", "mine"),
        (".", "mine"),
    ],
)
def test_a_source_gives_a_name(source: str, name: str) -> None:
    assert default_name(source) == name
