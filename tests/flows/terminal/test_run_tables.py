"""Tables of runs, generations and deletable files."""

from pathlib import Path

from rich.console import Console

from flows.terminal.run_tables import show_gc_candidates, show_run
from storage.artifacts.model_files import remove_weights
from storage.maintenance.gc import find_gc_candidates
from storage.runs.run import Run


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
