"""An answer as a table, or as a file that appears when it is whole."""

import csv
import json
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from flows.answers import Format, writer

QUESTION = """select 1 as id, 'a "text", and' as text, ['x', null] as parents, {'p': 0.5} as parameters, 'nan'::double as odd,
    null as nothing, date '2026-01-02' as day"""


def test_json_holds_every_kind_of_value(capsys: pytest.CaptureFixture[str]) -> None:
    writer(Format.json, None)(duckdb.sql(QUESTION))
    assert json.loads(capsys.readouterr().out) == [
        {
            "id": 1,
            "text": 'a "text", and',
            "parents": ["x", None],
            "parameters": {"p": 0.5},
            "odd": None,
            "nothing": None,
            "day": "2026-01-02",
        }
    ]


def test_no_rows_are_an_empty_list(capsys: pytest.CaptureFixture[str]) -> None:
    writer(Format.json, None)(duckdb.sql("select 1 as id where false"))
    assert json.loads(capsys.readouterr().out) == []


def test_csv_is_read_back(capsys: pytest.CaptureFixture[str]) -> None:
    writer(Format.csv, None)(duckdb.sql(QUESTION))
    (row,) = csv.DictReader(capsys.readouterr().out.splitlines())
    assert (row["text"], json.loads(row["parents"]), row["nothing"]) == ('a "text", and', ["x", None], "")


@pytest.mark.parametrize("name", ["answer.parquet", "answer.json", "answer.csv"])
def test_a_file_has_the_format_of_its_ending(name: str, tmp_path: Path) -> None:
    writer(None, tmp_path / name)(duckdb.sql("select range as id from range(3000)"))
    path = tmp_path / name
    readers = {
        ".parquet": lambda: pq.read_table(path).num_rows,
        ".json": lambda: len(json.loads(path.read_text())),
        ".csv": lambda: len(path.read_text().splitlines()) - 1,
    }
    assert readers[path.suffix]() == 3000
    assert [found.name for found in tmp_path.iterdir()] == [name]


def test_a_question_that_fails_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(duckdb.Error):
        writer(None, tmp_path / "answer.csv")(duckdb.sql("select error('no') from range(2)"))
    assert not (tmp_path / "answer.csv").exists()


@pytest.mark.parametrize(
    ("kind", "out", "sentence"),
    [
        (Format.parquet, None, "Parquet goes to a file; name it with --out FILE"),
        (Format.table, "answer.csv", "a table is for the screen"),
        (None, "answer.doc", "says no format by its name; add --format json, csv or parquet"),
        (None, "there.csv", "is there already; name another file, or remove it"),
    ],
)
def test_a_format_that_does_not_fit_is_refused(
    kind: Format | None, out: str | None, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "there.csv").write_text("mine")
    with pytest.raises(ValueError, match=sentence):
        writer(kind, tmp_path / out if out else None)
    assert (tmp_path / "there.csv").read_text() == "mine"


def test_a_table_says_how_much_it_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    writer(None, None)(duckdb.sql("select range as id from range(1000)"))
    assert "200 shown" in capsys.readouterr().out
