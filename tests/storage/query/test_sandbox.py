"""A store that can be asked anything and is changed by nothing: hostile questions, and honest ones."""

import gc
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest

from heirloom.errors import HeirloomError
from storage.query.sandbox import QueryLimits, execute, open_readonly, statements
from storage.runs.run import Attempt, Run

HONEST = {
    "a selection": "select count(*) from metrics",
    "from first": "from generations",
    "a description": "describe corpus",
    "a summary": "summarize metrics",
    "the views": "show tables",
    "a plan": "explain analyze select count(*) from corpus",
    "a recursion": "with recursive n(i) as (select 1 union all select i + 1 from n where i < 3) select * from n",
    "a union": "select id from human_train union select id from candidates order by 1 limit 3",
    "a pivot": "pivot metrics on metric in ('perplexity') using first(value) group by run",
    "a series": "select * from range(3), generate_series(1, 2)",
    "a comment": "-- how many?\nselect 1 /* one */;",
    "a word in a text": "select 'copy', 'drop table'",
}
PART = "{two_runs}/runs/second/generation=0/attempt=1/metrics/part-00000.parquet"
HOSTILE = {
    "copy": f"copy (select 1) to '{PART}'",
    "copy from": "copy journal from '{outside}/secret.csv'",
    "copy in a with clause": f"with x as (copy (select 1) to '{PART}') select * from x",
    "insertion in a with clause": "with x as (insert into journal select * from journal returning *) select * from x",
    "deletion in a with clause": "with x as (delete from journal returning *) select count(*) from x",
    "copy under explain": f"explain analyze copy (select 1) to '{PART}'",
    "copy under a masked explain": f"explain /* */ analyze copy (select 1) to '{PART}'",
    "copy as a syntax tree": "from json_execute_serialized_sql('{tree}')",
    "copy as a syntax tree in a text": "from query('from json_execute_serialized_sql(''{tree}'')')",
    "a second statement": f"select 1; copy (select 1) to '{PART}'",
    "drop": "drop view corpus",
    "replacement of a view": "create or replace view corpus as select 1",
    "a table": "create table mine as select 1",
    "a macro": "create macro f(x) as x",
    "update": "update generations_all_attempts set human_fraction = 1",
    "delete": "delete from journal",
    "insert": "insert into journal select * from journal",
    "truncate": "truncate journal",
    "alter": "alter table journal add column x int",
    "attach": "attach '{outside}/other.duckdb'",
    "export": "export database '{outside}/all'",
    "import": "import database '{outside}'",
    "install": "install httpfs",
    "load": "load '{outside}/evil.duckdb_extension'",
    "set": "set enable_external_access = true",
    "set variable": "set variable store = 'x'",
    "reset": "reset lock_configuration",
    "pragma": "pragma enable_profiling = 'json'",
    "call": "call enable_logging(storage = 'file', storage_config = {{'path': '{outside}/log'}})",
    "logging as a table": "from enable_logging(storage = 'file', storage_config = {{'path': '{outside}/log'}})",
    "checkpoint": "from checkpoint()",
    "secret": "create secret (type s3, key_id 'x', secret 'y')",
    "prepare": "prepare p as select 1",
    "transaction": "begin",
    "a file outside": "select * from read_text('{outside}/secret.csv')",
    "a file outside by its name": "from '{outside}/secret.csv'",
    "a file outside behind dots": "select * from read_text('{two_runs}/../outside/secret.csv')",
    "a folder outside": "select * from glob('{outside}/*')",
    "a table of numbers outside": "select * from sniff_csv('{outside}/secret.csv')",
    "the network": "select * from read_parquet('https://localhost/x.parquet')",
    "a database file": "from read_duckdb('{outside}/other.duckdb')",
    "a variable of this program": "select * from store_frame",
}


@dataclass(frozen=True)
class _Asked:
    """A store, a folder outside of it with a secret, and a read-only connection."""

    store: Path
    outside: Path
    catalog: duckdb.DuckDBPyConnection


@pytest.fixture(scope="module")
def asked(_two_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> _Asked:
    """One connection for all questions, since each of them must leave it as it was."""
    folder = tmp_path_factory.mktemp("asked")
    store = Path(shutil.copytree(_two_runs, folder / "store"))
    outside = folder / "outside"
    outside.mkdir()
    (outside / "secret.csv").write_text("secret,words\n1,2\n")
    return _Asked(store, outside, open_readonly(store))


@pytest.mark.parametrize("kind", HONEST)
def test_an_honest_question_is_answered(kind: str, asked: _Asked) -> None:
    for statement in statements(asked.catalog, HONEST[kind]):
        assert execute(asked.catalog, statement, {}, lambda answer: answer.fetchall())


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_question_is_refused_and_changes_nothing(kind: str, asked: _Asked) -> None:
    store_frame = duckdb.sql("select 1 as secret").to_arrow_table()
    copy = f"with x as (copy (select 1) to '{PART.format(two_runs=asked.store)}') select * from x"
    ((tree,),) = asked.catalog.execute("select json_serialize_sql(?)", [copy]).fetchall()
    question = HOSTILE[kind].format(two_runs=asked.store, outside=asked.outside, tree=tree.replace("'", "''"))
    before = _contents(asked.store.parent)
    with pytest.raises(ValueError, match=r"The store|function|Permission|DuckDB:") as refused:
        _ask(asked.catalog, question)
    assert "secret,words" not in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1 or "DuckDB:" in str(refused.value)
    assert _contents(asked.store.parent) == before
    assert asked.catalog.execute("select count(*) from corpus").fetchall() == [(4,)]
    assert store_frame.num_rows == 1


def _ask(catalog: duckdb.DuckDBPyConnection, question: str) -> None:
    for statement in statements(catalog, question):
        execute(catalog, statement, {}, lambda answer: answer.fetchall())


def _contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_refused_statement_names_what_is_allowed(two_runs: Path) -> None:
    with pytest.raises(ValueError, match="The store is read-only: DROP statements are not allowed"):
        statements(open_readonly(two_runs), "drop view corpus")
    with pytest.raises(ValueError, match=r"PIVOT must list its columns here.* in \(\.\.\.\)"):
        statements(open_readonly(two_runs), "pivot metrics on metric using first(value)")
    with pytest.raises(ValueError, match="Found no SQL statement"):
        statements(open_readonly(two_runs), " -- nothing")


def test_files_outside_are_read_where_that_is_allowed_and_still_not_written(two_runs: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("id\ng001-0000000\n")
    question = f"select count(*) from '{tmp_path}/mine.csv' join corpus using (id)"
    catalog = open_readonly(two_runs, allow_files=True)
    assert execute(catalog, *statements(catalog, question), {}, lambda answer: answer.fetchall()) == [(1,)]
    with pytest.raises(ValueError, match="COPY statements are not allowed"):
        statements(catalog, f"copy corpus to '{tmp_path}/out.csv'")
    with pytest.raises(ValueError, match=r"Cannot access file .*mine.csv.*--allow-files"):
        execute(open_readonly(two_runs), question, {}, lambda answer: answer.fetchall())


def test_files_of_the_store_itself_can_be_asked(two_runs: Path) -> None:
    recipe = f"select recipe.seed from read_json('{two_runs}/runs/first/run.json')"
    assert execute(open_readonly(two_runs), recipe, {}, lambda answer: answer.fetchall()) == [(7,)]


@pytest.mark.parametrize("name", ["it's mine", "runs [old]", "a*b"])
def test_any_folder_name_can_hold_a_store_that_is_asked(name: str, two_runs: Path, tmp_path: Path) -> None:
    moved = two_runs.rename(tmp_path / name)
    assert open_readonly(moved).execute("select count(*) from metrics").fetchall() == [(4,)]


STOPPED = """
import os, signal, sys, threading
from pathlib import Path
from storage.query.sandbox import execute, open_readonly

# Ctrl-C as a person has it: who was begun in the background ignores it, and passes that on.
signal.signal(signal.SIGINT, signal.default_int_handler)
catalog = open_readonly(Path(sys.argv[1]))
threading.Timer(float(sys.argv[2]), os.kill, (os.getpid(), signal.SIGINT)).start()
endless = "select count(*) from range(100000000) a, range(100000) b where hash(a.range * b.range) = 3"
try:
    execute(catalog, endless, {}, len)
except KeyboardInterrupt:
    print("stopped", execute(catalog, "select 1", {}, lambda answer: answer.fetchall()))
"""


@pytest.mark.processes
@pytest.mark.parametrize("after", [0.01, 1.0])
def test_a_question_is_stopped_and_the_next_one_is_answered(after: float, two_runs: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", STOPPED, str(two_runs), str(after)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (ended.stdout, ended.returncode) == ("stopped [(1,)]\n", 0), ended.stderr


def test_a_part_that_is_removed_during_a_query_advises_to_run_it_again(two_runs: Path) -> None:
    catalog = open_readonly(two_runs)
    (Attempt(Run(two_runs, "second"), 0).folder / "metrics" / "part-00000.parquet").unlink()
    with pytest.raises(ValueError, match="If a run was removed meanwhile, run the query again"):
        execute(catalog, "select max(value) from metrics", {}, lambda answer: answer.fetchall())


def test_a_question_leaves_no_folder_behind(two_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    catalog = open_readonly(two_runs)
    execute(catalog, "select count(*) from (select range from range(1000000) order by hash(range))", {}, len)
    assert {path.name for path in tmp_path.iterdir()} == {"store"}
    assert json.loads((two_runs / "runs/first/run.json").read_text())["recipe"]["seed"] == 7


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select 1; -- what's new", ["select 1"]),
        ("select 1;; /* a */", ["select 1"]),
        ("-- a\nselect ';' -- b", ["-- a\nselect ';' -- b"]),
        ("select 'é;'; -- é\nselect 2 ; -- c", ["select 'é;'", "select 2 "]),
        ("select $$;$$;", ["select $$;$$"]),
    ],
)
def test_a_statement_ends_before_its_semicolon(text: str, expected: list[str]) -> None:
    assert [statement.rpartition("\n")[2] for statement in statements(duckdb.connect(), text)] == [
        statement.rpartition("\n")[2] for statement in expected
    ]


def test_an_error_after_many_rows_is_reported_as_one_sentence() -> None:
    statement = "select if(range = 400000, error('late'), range) from range(1000000)"
    with pytest.raises(HeirloomError, match=r"DuckDB: .*late"):
        execute(duckdb.connect(), statement, {}, lambda relation: relation.to_arrow_reader().read_all())


def test_a_query_that_takes_too_long_is_stopped_and_the_catalog_stays_usable(two_runs: Path) -> None:
    catalog = open_readonly(two_runs, limits=QueryLimits(memory="1GB", temp_size="1GB"))
    endless = "select count(*) from range(1000000000000) where random() > 2"
    with pytest.raises(HeirloomError, match=r"stopped after 0\.5 s\. Pass --timeout"):
        execute(catalog, endless, {}, lambda answer: answer.fetchall(), seconds=0.5)
    assert execute(catalog, "select 1", {}, lambda answer: answer.fetchall()) == [(1,)]


def test_a_limit_of_memory_is_checked_and_set(two_runs: Path) -> None:
    with pytest.raises(HeirloomError, match="'much' is no limit of memory"):
        open_readonly(two_runs, limits=QueryLimits(memory="much"))
    catalog = open_readonly(two_runs, limits=QueryLimits(memory="1GB"))
    assert catalog.execute("select current_setting('memory_limit')").fetchall() == [("953.6 MiB",)]


def test_temporary_files_are_in_a_private_folder_that_goes_with_the_connection(two_runs: Path) -> None:
    catalog = open_readonly(two_runs)
    ((name,),) = catalog.execute("select current_setting('temp_directory')").fetchall()
    assert Path(name).stat().st_mode & 0o777 == 0o700
    del catalog
    gc.collect()
    assert not Path(name).exists()
