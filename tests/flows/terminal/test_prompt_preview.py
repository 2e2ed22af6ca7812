"""Prompts of the next generation, printed before it starts."""

import re
from pathlib import Path

import pytest
from rich.console import Console

from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.terminal.prompt_preview import print_preview
from storage.runs.run import Run


def _output(
    recipe: Recipe, site: Site, count: int = 2, tables: dict[str, dict[str, object]] | None = None, **prompts: object
) -> str:
    console = Console(record=True, width=160)
    values = recipe.model_dump(mode="json")
    for name, table in (tables or {}).items():
        values[name] |= table
    changed = recipe.model_validate({**values, "prompts": prompts})
    print_preview(console, changed, site, count)
    return console.export_text()


def test_prompts_are_shown_in_full_with_their_record(ingested: Site, recipe: Recipe) -> None:
    output = _output(recipe, ingested, template_name="rephrase")
    assert "template rephrase; record: the completion" in output
    assert output.count("Say the following in other words.") == 2
    assert output.count("from h-") == 2


def test_prompts_are_counted_by_combination_of_attributes(ingested: Site, recipe: Recipe) -> None:
    attributes = {"tone": ["plain", "odd"], "form": ["list", "[story]"]}
    output = _output(recipe, ingested, 0, template_name="template", template="A {tone} {form}.", attributes=attributes)
    rows = [line for line in output.splitlines() if "plain" in line or "odd" in line]
    assert len(rows) == 4
    assert any("[story]" in row for row in rows)
    assert "prompt 1" not in output


def test_only_the_first_of_many_combinations_are_listed(ingested: Site, recipe: Recipe) -> None:
    attributes = {"persona": [f"person {number}" for number in range(12_000)]}
    output = _output(recipe, ingested, 0, template_name="persona", attributes=attributes)
    (number,) = re.findall(r"generation 1: ([\d,]+) prompts", output)
    num_listed = output.count("person ")
    assert num_listed <= 200
    more = re.findall(r"and ([\d,]+) more rows", output)
    assert num_listed + sum(int(count.replace(",", "")) for count in more) == int(number.replace(",", ""))


def test_unconditional_generation_has_empty_prompts(ingested: Site, recipe: Recipe) -> None:
    assert "empty: unconditional generation" in _output(recipe, ingested, 1)


def test_more_prompts_than_human_records_are_refused(ingested: Site, recipe: Recipe) -> None:
    with pytest.raises(ValueError, match="prompts from human training records"):
        _output(recipe, ingested, template_name="prefix", prompts_per_human_record=3)


def test_completions_and_teachers_are_counted_and_the_selection_is_named(ingested: Site, recipe: Recipe) -> None:
    tables: dict[str, dict[str, object]] = {
        "generate": {"teachers": ["self", "wise"], "teacher_routing": "reward"},
        "curate": {"filters": ["best_of"], "best_of": {"objective": "length"}},
    }
    output = _output(recipe, ingested, 0, tables, template_name="prefix", completions_per_prompt=2)
    count = int(output.split("generation 1: ")[1].split(" prompts")[0])
    assert f"generation 1: {count} prompts, {4 * count} completions, template prefix" in output
    assert "best_of keeps the completion with the highest length" in output
    assert [line.split() for line in output.splitlines() if "self" in line or "wise" in line] == [
        ["self", str(2 * count)],
        ["wise", str(2 * count)],
    ]


def test_an_existing_run_is_shown_with_its_next_generation(finished_store: Path) -> None:
    recipe = Recipe.model_validate(Run(finished_store, "tiny").recipe())
    prompts = {
        "template_name": "prefix",
        "prompts_per_human_record": 0.5,
        "topic_steering": {"num_topics": 3, "encoder": "hashing"},
    }
    output = _output(recipe, Site(store=finished_store), 1, **prompts)
    assert "generation 4:" in output
    rows = [line.split() for line in output.split("last generation")[1].split("prompt 1")[0].splitlines()[1:]]
    assert len(rows) == 3
    assert sum(int(row[-2]) for row in rows) > 20
    count = int(output.split("generation 4: ")[1].split(" prompts")[0])
    assert sum(int(row[-1]) for row in rows) == count
