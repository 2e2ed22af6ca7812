"""One reading of the manifests, of a store that may grow or shrink meanwhile."""

import shutil
from pathlib import Path

import pytest

from storage.artifacts.artifact import MANIFEST, ArtifactMissingError
from storage.query import scan as listing
from storage.query.scan import scan_store, store_state
from storage.runs.run import Attempt, Run
from tests.storage.conftest import live


def test_a_store_is_listed_with_its_accepted_attempts(two_runs: Path) -> None:
    first, second = scan_store(two_runs).runs
    assert (first.run.name, second.run.name) == ("first", "second")
    assert first.accepted() == {(0, 1), (1, 2)}
    assert set(first.attempts[1, 2]) > {
        "candidates",
        "decisions",
        "corpus",
        "model",
        "metrics",
        "eval_samples",
        "verdict",
    }


def test_every_manifest_is_read_once(two_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    real = listing.read_manifest
    monkeypatch.setattr(listing, "read_manifest", lambda folder: read.append(folder) or real(folder))
    scan_store(two_runs)
    assert len(read) == len(set(read)) == len(list(two_runs.glob(f"runs/*/*/*/*/{MANIFEST}")))


def test_a_draft_with_its_manifest_is_not_there_before_its_rename(two_runs: Path) -> None:
    corpus = Attempt(Run(two_runs, "first"), 0).folder / "corpus"
    shutil.copytree(corpus, corpus.with_name(".corpus.draft"))
    (first, *_) = scan_store(two_runs).runs
    assert ".corpus.draft" not in first.attempts[0, 1]


def test_a_run_that_goes_while_it_is_read_is_not_there(two_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = listing.read_manifest

    def removing(folder: Path) -> dict[str, object]:
        if "second" in str(folder):
            shutil.rmtree(two_runs / "runs" / "second", ignore_errors=True)
        return real(folder)

    monkeypatch.setattr(listing, "read_manifest", removing)
    assert [one.run.name for one in scan_store(two_runs).runs] == ["first"]


def test_a_run_that_is_broken_is_an_error_and_not_an_absent_run(two_runs: Path) -> None:
    (Attempt(Run(two_runs, "second"), 0).folder / "metrics" / "part-00000.parquet").unlink()
    with pytest.raises(ArtifactMissingError, match=r"is missing part-00000\.parquet"):
        scan_store(two_runs)


def test_the_state_of_a_store_changes_with_what_is_finished_and_accepted(two_runs: Path) -> None:
    before = store_state(two_runs)
    assert store_state(two_runs) == before
    live(Run(two_runs, "second"), 2)
    grown = store_state(two_runs)
    assert grown != before
    Run(two_runs, "second").append("rejected", 2, 1, "worse")
    assert store_state(two_runs) != grown


def test_a_folder_of_stores_is_none_and_they_are_named(store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "all" / "demo")
    with pytest.raises(ValueError, match=r"There is no store at .*all, but below it\. Use --store .*all/demo$"):
        scan_store(tmp_path / "all")
    assert scan_store(tmp_path / "all" / "demo").runs
