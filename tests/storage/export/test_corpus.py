"""A corpus as a folder that others open, absent or finished."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heirloom.chat import to_json
from storage.artifacts import schemas as records
from storage.export.conversations import with_conversations
from storage.export.corpus import _WRITERS, export_corpus
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


_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    ["", "null", '"so"', "a\u2028b\u2029c\x85d", "line\r\nline", "\x00", "\ufeffa", "\\n", "### user\na"]
)
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXTS,
    lambda some: st.lists(some, max_size=3) | st.dictionaries(_TEXTS, some, max_size=3),
    max_leaves=6,
)
_CALLS = st.lists(
    st.fixed_dictionaries({"type": st.just("function"), "function": st.fixed_dictionaries({"arguments": st.dictionaries(
        _TEXTS, _JSON, max_size=3), "name": st.just("f")})}),
    min_size=1, max_size=2,
)  # fmt: skip
_ANSWERS = st.fixed_dictionaries(
    {"role": st.sampled_from(["assistant", "rejected"]), "content": _TEXTS},
    optional={"reasoning": _TEXTS, "tool_calls": _CALLS},
)
_MESSAGES = st.tuples(st.builds(lambda text: {"role": "user", "content": text}, _TEXTS), _ANSWERS).map(list)
_TOOLS = st.lists(st.fixed_dictionaries({"type": st.just("function"), "function": st.just({"name": "f"})}), max_size=2)
_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "id": _TEXTS,
            "text": _TEXTS,
            "license": _TEXTS,
            "source_generation": st.integers(-(2**31), 2**31 - 1),
            "weight": st.floats(allow_nan=False, allow_infinity=False),
            "messages": st.none() | _MESSAGES,
            "tools": st.none() | _TOOLS,
        }
    ),
    min_size=1,
    max_size=8,
)


def _expected(row: dict[str, Any]) -> dict[str, Any]:
    turns = [
        {"reasoning_content" if name == "reasoning" else name: value for name, value in message.items()}
        for message in row["messages"] or ()
    ]
    kept = [turn for turn in turns if turn["role"] != "rejected"]
    rejected = [{**turn, "role": "assistant"} for turn in turns if turn["role"] == "rejected"]
    return {**row, "messages": kept or None, "rejected": rejected or None, "tools": row["tools"] or None}


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(_ROWS)
def test_every_value_of_an_export_is_read_back_by_other_programs(rows: list[dict[str, Any]]) -> None:
    stored = [{**row, "messages": to_json(row["messages"] or []), "tools": to_json(row["tools"] or [])} for row in rows]
    table = with_conversations(pa.Table.from_pylist(stored, schema=_SCHEMA))
    names = table.column_names
    expected = [{name: value for name, value in _expected(row).items() if name in names} for row in rows]
    with TemporaryDirectory() as folder:
        files = {suffix: Path(folder) / f"corpus{suffix}" for suffix in _WRITERS}
        for suffix, write in _WRITERS.items():
            write(table, files[suffix])
        lines = files[".jsonl"].read_bytes().decode().removesuffix("\n").split("\n")
        columns = "{" + ", ".join(f"{name}: 'JSON'" for name in names) + "}"
        by_duckdb = duckdb.sql(f"from read_json('{files['.jsonl']}', format='newline_delimited', columns={columns})")
        of_parquet = duckdb.sql(f"from '{files['.parquet']}'").fetchall()
        found = {
            "json": [json.loads(line) for line in lines],
            "orjson": [orjson.loads(line) for line in lines] if _fits_orjson(rows) else expected,
            "DuckDB, JSON lines": [_decoded(names, cells, names) for cells in by_duckdb.fetchall()],
            "DuckDB, Parquet": [_decoded(names, cells, _CONVERSATION) for cells in of_parquet],
            "pyarrow": [
                _decoded(names, row.values(), _CONVERSATION) for row in pq.read_table(files[".parquet"]).to_pylist()
            ],
        }
    for name, values in found.items():
        assert values == expected, name


_CONVERSATION = ("messages", "rejected", "tools")
_SCHEMA = pa.schema([*(records.CORPUS.field(name) for name in ("id", "text", "source_generation", "weight")),
                     ("license", pa.string()), ("messages", pa.string()), ("tools", pa.string())])  # fmt: skip


def _fits_orjson(rows: object) -> bool:
    """Whether no integer has more than 64 bits, which orjson reads as a float."""
    return not re.search(r"\d{19}", json.dumps(rows))


def _decoded(names: Sequence[str], cells: Iterable[Any], of_json: Sequence[str]) -> dict[str, Any]:
    pairs = zip(names, cells, strict=True)
    return {name: json.loads(cell) if name in of_json and cell is not None else cell for name, cell in pairs}
