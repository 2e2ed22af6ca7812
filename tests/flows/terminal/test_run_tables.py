from pathlib import Path

import pytest
from rich.console import Console

from flows.terminal.console import format_bytes, progress_counter
from flows.terminal.run_tables import show_gc_candidates, show_run
from storage.artifacts.model_files import remove_weights
from storage.maintenance.gc import find_gc_candidates
from storage.runs.run import Run


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 bytes"), (1023, "1,023 bytes"), (1024, "1.0 KiB"), (1536 * 1024, "1.5 MiB"), (2**50, "1,024.0 TiB")],
)
def test_bytes_are_told_in_a_unit_that_a_person_reads(count: int, said: str) -> None:
    assert format_bytes(count) == said


def test_what_is_over_soon_says_nothing() -> None:
    console = Console(record=True, width=100)
    with progress_counter(console, "verified", "artifacts") as told:
        told(1, 2)
    assert console.export_text().strip() == ""


def test_what_takes_long_counts_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.terminal.run_tables._PATIENCE", -1)
    console = Console(record=True, width=100)
    with progress_counter(console, "verified", "artifacts") as told:
        told(1, 2)
    assert "verified 1 of 2 artifacts" in console.export_text()


def test_what_is_special_about_a_generation_is_noted(store: Path) -> None:
    console = Console(record=True, width=200)
    run = Run(store, "tiny")
    remove_weights(run.folder / "generation=1/attempt=1/model")
    (run.folder / "generation=3/attempt=2").mkdir()
    run.append("rejected", 3, 2, "worse")
    show_run(console, run)
    said = console.export_text()
    assert "without weights" in said
    assert "3, attempt 2" in said
    assert "rejected, not finished" in said


def test_what_can_go_is_added_up(store: Path) -> None:
    console = Console(record=True, width=200)
    show_gc_candidates(console, store, find_gc_candidates(store, keep_models=1))
    assert "2 in all" in console.export_text()


def test_a_run_is_shown_with_its_profile(store: Path) -> None:
    console = Console(record=True, width=250)
    show_run(console, Run(store, "tiny"))
    said = console.export_text()
    assert "lost tails" in said and "changed scaling law" in said
    assert said.count("present") + said.count("absent ") >= 6
