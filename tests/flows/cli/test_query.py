"""Commands that query the store: `sql`, `query`, `catalog` and `export`."""

import json
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from flows.cli.app import app
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.evolve import evolve
from storage.query.catalog import open_catalog
from tasks.orchestration.prefect import without_prefect
from tests.support.paths import ROOT


def test_sql_without_a_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="There is no store"):
        app(["sql", "select 1", "--store", str(tmp_path / "none")], standalone_mode=False)


def test_sql_prints_a_result(ingested: Site, capsys: pytest.CaptureFixture[str]) -> None:
    app(["sql", "select count(*) as n from human_heldout", "--store", str(ingested.store)], standalone_mode=False)
    assert "n" in capsys.readouterr().out


@pytest.mark.processes
def test_a_pipe_is_read_up_to_its_first_refused_statement(ingested: Site) -> None:
    def piped(text: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "flows", "sql", "--store", str(ingested.store), "--format", "csv"]
        return subprocess.run(command, input=text, cwd=ROOT, capture_output=True, text=True, check=False)

    assert piped("select 1 as a; select 2 as b;").stdout == "a\n1\nb\n2\n"
    mistaken = piped("select 1 as a; drop view human_train; select 2 as b")
    assert (mistaken.returncode, mistaken.stdout) == (2, "")
    assert mistaken.stderr.startswith("heirloom: The store is read-only: DROP")


def test_a_named_query_takes_an_argument(ingested: Site, capsys: pytest.CaptureFixture[str]) -> None:
    ((record,),) = open_catalog(ingested.store).execute("select id from human_train limit 1").fetchall()
    app(["query", "record_history", record, "--format", "json", "--store", str(ingested.store)], standalone_mode=False)
    rows = json.loads(capsys.readouterr().out)
    assert [row["found_in"] for row in rows] == ["human_train"]
    with pytest.raises(ValueError, match="There is no record 'h-none'"):
        app(["query", "record_history", "h-none", "--store", str(ingested.store)], standalone_mode=False)


def test_named_queries_are_listed_without_a_store(capsys: pytest.CaptureFixture[str]) -> None:
    app(["query", "--store", "nowhere"], standalone_mode=False)
    assert "record_history RECORD" in capsys.readouterr().out


def test_a_catalog_file_is_written_and_duckdb_opens_it(ingested: Site, capsys: pytest.CaptureFixture[str]) -> None:
    app(["catalog", "--store", str(ingested.store)], standalone_mode=False)
    file = ingested.store / "catalog.duckdb"
    assert f'duckdb "{file}"' in capsys.readouterr().out
    with duckdb.connect(file, read_only=True) as opened:
        assert opened.sql("select count(*) > 100 from human_train").fetchall() == [(True,)]


_READER = """import json, sys
from pathlib import Path
from storage.query.sandbox import open_readonly
num_queries, failed, root, until = 0, [], Path(sys.argv[1]), Path(sys.argv[2])
while not (until.exists() and num_queries):
    for statement in (
        "select generation, origin, count(*) from corpus group by all",
        "from generations",
        "select count(*) from records",
    ):
        try:
            open_readonly(root).execute(statement).fetchall()
        except Exception as error:
            failed.append(repr(error))
        num_queries += 1
print(json.dumps([num_queries, failed]))
"""


@pytest.mark.processes
def test_a_run_works_while_several_processes_query_it(ingested: Site, recipe: Recipe, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _READER, str(ingested.store), str(tmp_path / "over")]
    readers = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    with without_prefect():
        action = evolve(recipe, ingested)
    (tmp_path / "over").touch()
    results = [json.loads(reader.communicate()[0]) for reader in readers]
    assert action in ("go", "warn")
    assert all(num_queries > 0 for num_queries, _ in results)
    assert [error for _, failed in results for error in failed] == []


@pytest.mark.processes
def test_a_corpus_is_exported_and_its_folder_printed(
    ingested: Site, recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with without_prefect():
        evolve(recipe.model_copy(update={"num_generations": 1}), ingested)
    folder = tmp_path / "out"
    words = ["export", "tiny", "--to", "jsonl", "--out", str(folder), "--store", str(ingested.store)]
    capsys.readouterr()
    app(words, standalone_mode=False)
    assert capsys.readouterr().out.strip() == str(folder)
    rows = [json.loads(line) for line in (folder / "corpus.jsonl").read_text().splitlines()]
    assert {row["origin"] for row in rows} == {"human", "synthetic"}


@pytest.mark.processes
def test_closed_standard_streams_and_a_closed_pipe_show_no_traceback(ingested: Site) -> None:
    def shell(words: str) -> subprocess.CompletedProcess[str]:
        command = f"{sys.executable} -m flows sql --store '{ingested.store}' --format csv {words}"
        return subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)

    closed_input = shell("'select 1 as a' <&-")
    assert (closed_input.returncode, closed_input.stdout, closed_input.stderr) == (0, "a\n1\n", "")
    no_statement = shell("<&-")
    assert (no_statement.returncode, no_statement.stdout) == (2, "")
    assert no_statement.stderr.startswith("heirloom: Found no SQL statement")
    closed_output = shell("'select 1 as a' >&-")
    lost = "heirloom: The output of this command was not written: standard output is closed.\n"
    assert (closed_output.returncode, closed_output.stderr) == (1, lost)
    closed_pipe = shell("'from range(1000000)' | head -1")
    assert (closed_pipe.returncode, closed_pipe.stdout, closed_pipe.stderr) == (0, "range\n", "")
