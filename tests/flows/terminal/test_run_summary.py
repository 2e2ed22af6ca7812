"""Summaries and tables of runs."""

import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from curation.splitting import EvalSetSettings
from flows.config.loading import load_recipe
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.demo import demo_recipes
from flows.evolve import evolve
from flows.terminal.run_summary import (
    _format_number,
    print_answers,
    print_eval_exposure,
    print_start,
    print_summary,
    warn_without_filters,
)
from flows.terminal.run_tables import show_gc_candidates, show_run
from storage.artifacts.model_files import remove_weights
from storage.maintenance.gc import find_gc_candidates
from storage.query.catalog import open_catalog
from storage.runs.run import Run
from tasks.ingestion.eval_sets import add_eval_set
from tasks.orchestration.prefect import without_prefect
from tasks.reporting.report import report
from tests.conftest import human_texts


def test_the_start_lists_every_recipe_with_its_training_steps() -> None:
    out = io.StringIO()
    print_start(Console(file=out, width=200), demo_recipes(0), 400)
    for words in ("400 passages", "naive", "guarded", "human-only", "105 steps on human text, then 210 a generation"):
        assert words in out.getvalue()


@pytest.mark.processes
def test_the_outcome_fits_into_eighty_columns_with_any_run_name(ingested: Site, recipe: Recipe) -> None:
    name = "tiny-and-with-a-name-that-is-far-too-long"
    with without_prefect():
        evolve(recipe.model_copy(update={"name": name, "num_generations": 1}), ingested)
        folder = report(ingested.store, [name], name)
    out = io.StringIO()
    print_summary(Console(file=out, width=80), ingested.store, folder, [name], {"train": 3.2, "mix": 0.01})
    (row,) = [line for line in out.getvalue().splitlines() if "→" in line]
    assert row.startswith("tiny-and")
    assert (row.count("→"), len(row)) == (5, 80)
    assert "…" not in out.getvalue()
    assert "train 3 s" in out.getvalue()
    assert "heirloom sql" in out.getvalue()
    print_answers(Console(file=out, width=80), ingested.store, [name])
    answers = out.getvalue().split("generation by generation")[1]
    assert [line.split()[0] for line in answers.splitlines() if line[: len("generation")].strip()] == [
        "generation",
        "0",
        "1",
    ]


@pytest.mark.parametrize(
    ("changes", "warned"),
    [([], True), (["curate.filters=['empty']"], False), (["train={backend='gaussian-mixture'}"], False)],
)
def test_a_recipe_for_texts_without_any_filter_is_warned_of(changes: list[str], warned: bool) -> None:
    out = io.StringIO()
    warn_without_filters(Console(file=out), load_recipe("anchor", changes))
    assert ("anchor: `curate.filters` is empty" in out.getvalue()) is warned


@pytest.mark.processes
def test_the_summary_of_a_comparison_shows_only_the_runs_that_were_compared(ingested: Site, recipe: Recipe) -> None:
    with without_prefect():
        for name in ("one", "two", "three"):
            evolve(recipe.model_copy(update={"name": name, "num_generations": 0}), ingested)
        folder = report(ingested.store, ["one", "three"], "compare")
    out = io.StringIO()
    print_summary(Console(file=out, width=80), ingested.store, folder, ["one", "three"], {})
    rows = [line.split()[0] for line in out.getvalue().splitlines() if line.startswith(("one", "two", "three"))]
    assert sorted(rows) == ["one", "three"]


def test_large_numbers_are_abbreviated() -> None:
    texts = {0.333: "0.33", 9999.0: "9,999", 54_432.0: "54k", 5_443_200.0: "5.4M", 2e10: "20.0G", math.inf: "inf"}
    assert {value: _format_number(value, 2 if value < 1 else 0) for value in texts} == texts


def test_exposures_of_an_evaluation_set_are_listed_or_reported_as_none(ingested: Site) -> None:
    human_train = open_catalog(ingested.store).sql("select text from human_train limit 3").fetchall()
    for name, texts in (("exam", [text for (text,) in human_train]), ("quiz", human_texts(5, seed=8))):
        source = ingested.store / f"{name}.jsonl"
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        with without_prefect():
            add_eval_set(ingested.store, "letters", name, [str(source)], EvalSetSettings())
    out = io.StringIO()
    print_eval_exposure(Console(file=out, width=80), ingested.store, "letters", "exam")
    (line,) = [line.split() for line in out.getvalue().splitlines() if line.strip().startswith("human_train")]
    assert line[:3] == ["human_train", "3", "1"]
    out = io.StringIO()
    print_eval_exposure(Console(file=out, width=80), ingested.store, "letters", "quiz")
    assert out.getvalue() == "No record in the store overlaps with quiz.\n"


def test_missing_weights_and_rejected_attempts_are_shown(store: Path) -> None:
    console = Console(record=True, width=200)
    run = Run(store, "tiny")
    remove_weights(run.folder / "generation=1/attempt=1/model")
    (run.folder / "generation=3/attempt=2").mkdir()
    run.append("rejected", 3, 2, "worse")
    show_run(console, run)
    output = console.export_text()
    assert "without weights" in output
    assert "3, attempt 2" in output
    assert "rejected, not finished" in output


def test_sizes_of_deletable_files_are_added_up(store: Path) -> None:
    console = Console(record=True, width=200)
    show_gc_candidates(console, store, find_gc_candidates(store, keep_models=1))
    assert "2 in total" in console.export_text()


def test_a_run_is_shown_with_its_collapse_tests(store: Path) -> None:
    console = Console(record=True, width=250)
    show_run(console, Run(store, "tiny"))
    output = console.export_text()
    assert "lost tails" in output and "changed scaling law" in output
    assert output.count("present") + output.count("absent ") >= 6
