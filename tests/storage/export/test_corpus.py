"""A corpus as a folder that others open, absent or finished."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from storage.artifacts import schemas as records
from storage.export.corpus import export_corpus
from storage.runs.run import Attempt, Run
from tests.storage.conftest import publish


@pytest.fixture
def mixed(two_runs: Path) -> Path:
    """The store with a corpus of human and synthetic records in generation 2 of the first run."""
    rows = [
        {
            "id": "h-1",
            "text": "human_train",
            "origin": "human",
            "source_generation": 0,
            "source": "letters.txt",
            "text_hash": "d",
            "weight": 1.0,
        },
        {
            "id": "g002-0000000",
            "text": 'wrote "so"\n',
            "origin": "synthetic",
            "source_generation": 2,
            "source": "",
            "text_hash": "e",
            "weight": 1.0,
        },
    ]
    attempt = Attempt(Run(two_runs, "first"), 2)
    publish(attempt.artifact("corpus", {}), records.CORPUS, rows, corpus=2, human=1, human_fraction=0.5, snapshot=1)
    return two_runs


@pytest.mark.processes
@pytest.mark.parametrize("kind", ["hf", "jsonl", "parquet"])
def test_an_export_holds_the_records_with_their_licenses(kind: str, mixed: Path, tmp_path: Path) -> None:
    rows = _rows(export_corpus(mixed, "first", None, kind, tmp_path / "out"))
    assert [(row["id"], row["text"], row["license"]) for row in rows] == [
        ("h-1", "human_train", "CC0-1.0"),
        ("g002-0000000", 'wrote "so"\n', ""),
    ]


def _rows(folder: Path) -> list[dict[str, Any]]:
    (file,) = [path for path in folder.rglob("*") if path.suffix in (".parquet", ".jsonl")]
    if file.suffix == ".parquet":
        return pq.read_table(file).to_pylist()
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.processes
@pytest.mark.parametrize("kind", ["hf", "jsonl", "parquet"])
def test_datasets_opens_an_export(kind: str, mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    try:
        import datasets
    except ImportError:
        pytest.skip("datasets is not installed")
    folder = export_corpus(mixed, "first", 2, kind, tmp_path / "out")
    opened = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert opened["train"]["id"][:] == ["h-1", "g002-0000000"]


@pytest.mark.processes
@pytest.mark.parametrize("kind", ["hf", "jsonl", "parquet"])
def test_the_standard_validator_accepts_the_metadata_and_reads_the_records(
    kind: str, mixed: Path, tmp_path: Path
) -> None:
    try:
        import mlcroissant
    except ImportError:
        pytest.skip("mlcroissant is not installed")
    folder = export_corpus(mixed, "first", 2, kind, tmp_path / "out")
    described = mlcroissant.Dataset(jsonld=folder / "croissant.json")
    assert not described.metadata.issues.errors
    assert not described.metadata.issues.warnings
    assert [row["corpus/id"] for row in described.records("corpus")] == [b"h-1", b"g002-0000000"]


@pytest.mark.parametrize(
    ("run", "generation", "kind", "sentence"),
    [
        ("third", None, "hf", "There is no run third"),
        ("first", 9, "hf", r"Run first has no corpus in generation 9\. Generations: 0 to 2"),
        ("first", 2, "xml", r"Unknown export format 'xml'\. Formats: hf, jsonl, parquet"),
    ],
)
def test_what_is_not_there_cannot_be_exported_and_leaves_nothing(
    run: str, generation: int | None, kind: str, sentence: str, mixed: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=sentence):
        export_corpus(mixed, run, generation, kind, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"store"}


@pytest.mark.processes
def test_a_folder_that_is_there_is_not_overwritten(mixed: Path, tmp_path: Path) -> None:
    folder = export_corpus(mixed, "first", 2, "jsonl", tmp_path / "out")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"exists already\. Name another folder with --out, or remove it"):
        export_corpus(mixed, "first", 1, "jsonl", folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.processes
def test_what_a_killed_export_left_behind_is_replaced(mixed: Path, tmp_path: Path) -> None:
    (tmp_path / ".out.draft").mkdir()
    (tmp_path / ".out.draft" / "half").write_text("a record")
    folder = export_corpus(mixed, "first", 2, "hf", tmp_path / "out")
    assert {path.name for path in folder.iterdir()} == {"README.md", "croissant.json", "data"}
    assert {path.name for path in tmp_path.iterdir()} == {"store", "out"}
