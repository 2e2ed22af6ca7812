"""Query results as a table, or as a file that appears once it is complete."""

import csv
import io
import json
import math
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import hypothesis.strategies as st
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from rich.console import Console

from flows.terminal.output_format import OutputFormat
from flows.terminal.query_output import result_writer

STATEMENT = """select 1 as id, 'a "text", and' as text, ['x', null] as parents, {'p': 0.5} as parameters,
    'nan'::double as odd,
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
    assert _shown("select 0 as dropped, true as kept", monkeypatch)[:2] == ["dropped  kept", "      0  true"]


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


JOIN = "select a.id, b.id, a.n from (select 1 as id, 'x' as n) a, (select 2 as id) b"


def _written(statement: str, output_format: OutputFormat) -> str:
    with TemporaryDirectory() as folder:
        out = Path(folder) / f"result.{output_format}"
        result_writer(None, out)(duckdb.sql(statement))
        return out.read_bytes().decode()


def _read_back(statement: str, columns: str = "*") -> list[tuple[Any, ...]]:
    with TemporaryDirectory() as folder:
        out = Path(folder) / "result.parquet"
        result_writer(None, out)(duckdb.sql(statement))
        return duckdb.sql(f"select {columns} from '{out}'").fetchall()


def test_columns_with_one_name_keep_their_own_values_in_every_format(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _written(JOIN, OutputFormat.csv) == "id,id_1,n\n1,2,x\n"
    assert json.loads(_written(JOIN, OutputFormat.json)) == [{"id": 1, "id_1": 2, "n": "x"}]
    assert _read_back(JOIN, "id, id_1, n") == [(1, 2, "x")]
    assert _shown(JOIN, monkeypatch)[:2] == ["id  id_1  n", " 1     2  x"]


def test_a_renamed_column_does_not_hide_a_column_that_has_the_new_name() -> None:
    statement = 'select 1 as id, 2 as id, 3 as id_1, 4 as id, 5 as "a\'b", 6 as "a""b", 7 as "a\'b"'
    assert list(json.loads(_written(statement, OutputFormat.json))[0].values()) == [1, 2, 3, 4, 5, 6, 7]
    assert _written(statement, OutputFormat.csv).splitlines()[1] == "1,2,3,4,5,6,7"
    assert _read_back(statement) == [(1, 2, 3, 4, 5, 6, 7)]


def test_a_named_parameter_keeps_its_value(capsys: pytest.CaptureFixture[str]) -> None:
    result_writer(OutputFormat.csv, None)(duckdb.sql("select $word as a, $word as a", params={"word": "it's"}))
    assert capsys.readouterr().out == "a,a_1\nit's,it's\n"


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        ("9007199254740995", "hugeint"),
        ("-9223372036854775808", "bigint"),
        ("18446744073709551615", "ubigint"),
        ("170141183460469231731687303715884105727", "hugeint"),
        ("340282366920938463463374607431768211455", "uhugeint"),
        ("12345678901234567890123.4567", "decimal(38, 4)"),
        ("-1.10", "decimal(20, 2)"),
        ("-0.10000000000000000000000000000000000001", "decimal(38, 38)"),
        ("0.5", "decimal(1, 1)"),
    ],
)
def test_exact_numbers_keep_every_digit(number: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    statement = f"select '{number}'::{kind} as n, ['{number}'::{kind}] as l"
    (row,) = json.loads(_written(statement, OutputFormat.json), parse_float=str, parse_int=str)
    assert (row["n"], row["l"]) == (number, [number])
    (cells,) = csv.DictReader(io.StringIO(_written(statement, OutputFormat.csv)))
    assert (Decimal(cells["n"]), cells["l"]) == (Decimal(number), f"[{number}]")
    assert Decimal(_shown(f"select '{number}'::{kind} as n", monkeypatch)[1]) == Decimal(number)


def test_a_sum_of_integers_is_an_integer_in_json() -> None:
    statement = "select sum(x) as s from (values (9007199254740993::bigint), (2::bigint)) t(x)"
    assert _written(statement, OutputFormat.json) == '[\n{"s":9007199254740995}\n]\n'
    assert _read_back(statement) == [(Decimal(9007199254740995),)]


def test_rows_keep_their_order() -> None:
    lines = _written("select range as n from range(300000) order by hash(range), range", OutputFormat.csv).split()[1:]
    expected = duckdb.sql("select range from range(300000) order by hash(range), range").fetchall()
    assert list(map(int, lines)) == [number for (number,) in expected]


def test_null_and_empty_text_differ_in_csv() -> None:
    assert _written("select null as a, '' as b", OutputFormat.csv) == 'a,b\n,""\n'


VALUES = {
    "interval '1 year 2 days 3.000001 seconds'": "1 year 2 days 00:00:03.000001",
    "timestamp 'infinity'": "infinity",
    "date '-infinity'": "-infinity",
    "date '5000-01-02' + interval 3000 year": "8000-01-02 00:00:00",
    "date '20000-01-02'": "20000-01-02",
    "date '0044-03-15 (BC)'": "0044-03-15 (BC)",
    "timestamptz '2026-01-02 03:04:05+02'": "2026-01-02 01:04:05+00",
    "timestamp_ns '2026-01-02 03:04:05.123456789'": "2026-01-02 03:04:05.123456789",
    "timetz '03:04:05+02'": "03:04:05+02",
    "'\\xAA\\x00b'::blob": "\\xAA\\x00b",
    "'0101'::bit": "0101",
    "'b'::enum('a', 'b')": "b",
    "uuid '12345678-1234-1234-1234-123456789012'": "12345678-1234-1234-1234-123456789012",
    "123456789012345678901234567890123456789012::bignum": "123456789012345678901234567890123456789012",
}


@pytest.mark.parametrize("value", VALUES)
def test_a_value_is_written_as_duckdb_prints_it(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    duckdb.execute("set timezone = 'UTC'")
    statement = f"select {value} as v, [{value}] as l"
    expected = VALUES[value]
    assert next(csv.DictReader(io.StringIO(_written(statement, OutputFormat.csv))))["v"] == expected
    (row,) = json.loads(_written(statement, OutputFormat.json), parse_int=str)
    assert (row["v"], row["l"]) == (expected, [expected])
    assert _shown(f"select {value} as v", monkeypatch)[1] == expected
    assert _read_back(statement, "v::varchar, l[1]::varchar") == [(expected, expected)]


def test_a_union_keeps_its_tag_in_json_and_parquet() -> None:
    statement = (
        "select union_value(k := 5) as u, [union_value(k := 'nan'::double)] as l, {'u': union_value(k := 6)} as s"
    )
    assert json.loads(_written(statement, OutputFormat.json)) == [
        {"u": {"k": 5}, "l": [{"k": None}], "s": {"u": {"k": 6}}}
    ]
    assert _read_back(statement, "u, s.u") == [('{"k":5}', '{"k":6}')]


def test_nan_and_infinities_are_null_in_json_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    statement = """select 'nan'::double as a, '-inf'::float as b, map {'NaN': 'nan'::double, 'x': 1.5} as m,
        [{'y': ['inf'::double]}] as l, 'a "NaN", -Infinity \\' as t"""
    assert json.loads(_written(statement, OutputFormat.json)) == [
        {"a": None, "b": None, "m": {"NaN": None, "x": 1.5}, "l": [{"y": [None]}], "t": 'a "NaN", -Infinity \\'}
    ]
    assert capsys.readouterr().err.startswith(
        "4 values are NaN or infinite, which JSON does not have: written as null."
    )
    assert _written(statement, OutputFormat.csv).splitlines()[1].startswith('nan,-inf,"{""NaN"":null,')
    assert math.isinf(_read_back(statement, "l[1].y[1]")[0][0])


def test_types_that_parquet_lacks_are_replaced_inside_nested_types() -> None:
    statement = """select {'a': 9007199254740995::hugeint, 'i': [interval 1 microsecond]} as s,
        map {'k': timetz '03:04:05+02'} as m, [1::uhugeint, 2]::uhugeint[2] as a, row(1, 'x') as r"""
    assert _read_back(statement, "s.a::varchar, s.i[1], m['k'], a[2]::varchar, r") == [
        ("9007199254740995", "00:00:00.000001", "03:04:05+02", "2", '[1,"x"]')
    ]


def test_an_integer_too_long_for_parquet_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    statement = "select if(range = 300000, 170141183460469231731687303715884105727, 1) as h from range(400000)"
    with pytest.raises(ValueError, match="at most 38 digits"):
        result_writer(None, tmp_path / "result.parquet")(duckdb.sql(statement))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20), min_size=1, max_size=20)
)
def test_texts_are_read_back_from_every_format(texts: list[str | None]) -> None:
    with TemporaryDirectory() as folder:
        files = {ending: Path(folder) / f"result.{ending}" for ending in ("csv", "json", "parquet")}
        for out in files.values():
            result_writer(None, out)(
                duckdb.sql("select unnest($texts::varchar[]) as a, 1 as a", params={"texts": texts})
            )
        expected = [(text, 1) for text in texts]
        assert duckdb.sql(f"from '{files['parquet']}'").fetchall() == expected
        assert [tuple(row.values()) for row in json.loads(files["json"].read_text())] == expected
        lines = files["csv"].read_bytes().decode()
        assert list(csv.reader(io.StringIO(lines, newline="")))[1:] == [[text or "", "1"] for text in texts]
        assert lines.count('"",1\n') >= texts.count("")


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(number=st.integers(-(10**38) + 1, 10**38 - 1), double=st.floats())
def test_numbers_are_read_back_from_every_format(number: int, double: float) -> None:
    statement = f"select {number}::hugeint as n, '{double!r}'::double as d"
    (row,) = json.loads(_written(statement, OutputFormat.json))
    assert row["n"] == number
    assert row["d"] == double if math.isfinite(double) else row["d"] is None
    (cells,) = csv.DictReader(io.StringIO(_written(statement, OutputFormat.csv)))
    ((stored, stored_double),) = _read_back(statement)
    assert int(cells["n"]) == int(stored) == number
    for value in (float(cells["d"]), stored_double):
        assert value == double or (math.isnan(value) and math.isnan(double))
