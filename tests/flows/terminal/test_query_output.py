"""Query results as a table, or as a file that appears once it is complete."""

import csv
import json
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from flows.terminal.output_format import OutputFormat
from flows.terminal.query_output import result_writer

STATEMENT = """select 1 as id, 'a "text", and' as text, ['x', null] as parents, {'p': 0.5} as parameters, 'nan'::double as odd,
    null as nothing, date '2026-01-02' as day"""


def test_json_holds_every_kind_of_value(capsys: pytest.CaptureFixture[str]) -> None:
    result_writer(OutputFormat.json, None)(duckdb.sql(STATEMENT))
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
    result_writer(OutputFormat.json, None)(duckdb.sql("select 1 as id where false"))
    assert json.loads(capsys.readouterr().out) == []


def test_csv_is_read_back(capsys: pytest.CaptureFixture[str]) -> None:
    result_writer(OutputFormat.csv, None)(duckdb.sql(STATEMENT))
    (row,) = csv.DictReader(capsys.readouterr().out.splitlines())
    assert (row["text"], json.loads(row["parents"]), row["nothing"]) == ('a "text", and', ["x", None], "")


@pytest.mark.parametrize("name", ["result.parquet", "result.json", "result.csv"])
def test_a_file_has_the_format_of_its_ending(name: str, tmp_path: Path) -> None:
    result_writer(None, tmp_path / name)(duckdb.sql("select range as id from range(3000)"))
    path = tmp_path / name
    readers = {
        ".parquet": lambda: pq.read_table(path).num_rows,
        ".json": lambda: len(json.loads(path.read_text())),
        ".csv": lambda: len(path.read_text().splitlines()) - 1,
    }
    assert readers[path.suffix]() == 3000
    assert [found.name for found in tmp_path.iterdir()] == [name]


def test_a_statement_that_fails_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(duckdb.Error):
        result_writer(None, tmp_path / "result.csv")(duckdb.sql("select error('no') from range(2)"))
    assert not (tmp_path / "result.csv").exists()


@pytest.mark.parametrize(
    ("kind", "out", "message"),
    [
        (OutputFormat.parquet, None, "Parquet cannot be printed. Name a file with --out FILE"),
        (OutputFormat.table, "result.csv", "A table can only be printed"),
        (None, "result.doc", "is not a known format. Pass --format json"),
        (None, "there.csv", "exists. Choose another file for --out, or delete it"),
    ],
)
def test_a_format_that_does_not_fit_is_refused(
    kind: OutputFormat | None, out: str | None, message: str, tmp_path: Path
) -> None:
    (tmp_path / "there.csv").write_text("mine")
    with pytest.raises(ValueError, match=message):
        result_writer(kind, tmp_path / out if out else None)
    assert (tmp_path / "there.csv").read_text() == "mine"


def _shown(statement: str, monkeypatch: pytest.MonkeyPatch, width: int = 80) -> list[str]:
    screen = Console(record=True, width=width, highlight=False)
    monkeypatch.setattr("flows.terminal.query_output.console", screen)
    result_writer(None, None)(duckdb.sql(statement))
    return [line.rstrip() for line in screen.export_text().splitlines()]


def test_a_table_counts_the_rows_that_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _shown("select range as id from range(3000)", monkeypatch)
    assert lines[-2:] == ["199", "3,000 rows, 200 shown; --format csv prints all"]
    endless = _shown("select range as id from range(10_000_000_000)", monkeypatch)
    assert endless[-1] == "over 1,000,000 rows, 200 shown; --format csv prints all"


def test_a_table_has_every_column_and_rounds_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _shown(
        "select 'guarded' as run, 1 / 3 as share, 12345678.9 as many, null as since, 'a\nb [c]' as \"count[1]\"",
        monkeypatch,
    ) == [
        "run         share        many  since  count[1]",
        "guarded  0.333333  12345678.9  NULL   a\\nb [c]",
        "1 row",
    ]


def test_zeros_align_as_numbers_and_booleans_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _shown("select 0 as dropped, true as kept", monkeypatch)[:2] == ["dropped  kept", "      0  True"]


def test_control_characters_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _shown("select 'a' || chr(27) || '[31mred' || chr(7) || chr(160) || 'é' as text", monkeypatch)
    assert lines[1] == "a\\x1b[31mred\\x07\xa0é"


def test_a_row_that_is_too_wide_is_printed_one_line_per_value(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = ", ".join(f"{number} + 0.5 as a_long_name_{number}" for number in range(9))
    lines = _shown(f"select {columns}, 'two words' as text", monkeypatch, width=60)
    assert lines[0] == "a_long_name_0  0.5" and lines[9] == "text           two words" and lines[-1] == "1 row"


def test_a_long_text_is_cut_in_a_table_with_a_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _shown("select repeat('word ', 400) as text, 'h-1' as id", monkeypatch)
    assert len(lines) < 12 and sum("…" in line for line in lines) == 2
    assert lines[-1] == "1 row; values that end with … are cut, --format json prints them in full"


def test_no_rows_have_their_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _shown("select 1 as id, '' as text where false", monkeypatch) == ["id  text", "no rows"]
