"""Commands that ask: a question is answered, a mistake in it is one sentence."""

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


def test_asking_without_a_store_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="There is no store"):
        app(["sql", "select 1", "--store", str(tmp_path / "none")], standalone_mode=False)


def test_a_question_is_answered(ingested: Site, capsys: pytest.CaptureFixture[str]) -> None:
    app(["sql", "select count(*) as n from human_heldout", "--store", str(ingested.store)], standalone_mode=False)
    assert "n" in capsys.readouterr().out


def test_a_pipe_is_read_and_its_first_mistake_ends_it(ingested: Site) -> None:
    def piped(text: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "flows", "sql", "--store", str(ingested.store), "--format", "csv"]
        return subprocess.run(command, input=text, cwd=ROOT, capture_output=True, text=True, check=False)

    assert piped("select 1 as a; select 2 as b;").stdout == "a\n1\nb\n2\n"
    mistaken = piped("select 1 as a; drop view human_train; select 2 as b")
    assert (mistaken.returncode, mistaken.stdout) == (2, "")
    assert mistaken.stderr.startswith("heirloom: The store is read-only: DROP")


def test_a_question_is_asked_by_name_with_its_argument(ingested: Site, capsys: pytest.CaptureFixture[str]) -> None:
    ((record,),) = open_catalog(ingested.store).execute("select id from human_train limit 1").fetchall()
    app(["query", "record_history", record, "--format", "json", "--store", str(ingested.store)], standalone_mode=False)
    ((life),) = [json.loads(capsys.readouterr().out)]
    assert [row["found_in"] for row in life] == ["human_train"]
    with pytest.raises(ValueError, match="There is no record 'nobody'"):
        app(["query", "record_history", "nobody", "--store", str(ingested.store)], standalone_mode=False)


def test_questions_are_listed_without_a_store(capsys: pytest.CaptureFixture[str]) -> None:
    app(["query", "--store", "nowhere"], standalone_mode=False)
    assert "record_history RECORD" in capsys.readouterr().out


def test_a_catalog_file_is_written_and_told_how_to_open(ingested: Site, capsys: pytest.CaptureFixture[str]) -> None:
    app(["catalog", "--store", str(ingested.store)], standalone_mode=False)
    file = ingested.store / "catalog.duckdb"
    assert f'duckdb "{file}"' in capsys.readouterr().out
    with duckdb.connect(file, read_only=True) as opened:
        assert opened.sql("select count(*) > 100 from human_train").fetchall() == [(True,)]


_READER = """import json, sys
from pathlib import Path
from storage.query.sandbox import open_readonly
asked, failed, root, until = 0, [], Path(sys.argv[1]), Path(sys.argv[2])
while not (until.exists() and asked):
    for question in ("select generation, origin, count(*) from corpus group by all", "from generations", "select count(*) from records"):
        try:
            open_readonly(root).execute(question).fetchall()
        except Exception as error:
            failed.append(repr(error))
        asked += 1
print(json.dumps([asked, failed]))
"""


def test_a_run_goes_on_while_several_processes_ask_about_it(ingested: Site, recipe: Recipe, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _READER, str(ingested.store), str(tmp_path / "over")]
    readers = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    with without_prefect():
        action = evolve(recipe, ingested)
    (tmp_path / "over").touch()
    told = [json.loads(reader.communicate()[0]) for reader in readers]
    assert action in ("go", "warn")
    assert all(asked > 0 for asked, _ in told)
    assert [error for _, failed in told for error in failed] == []


def test_a_corpus_is_exported_and_the_folder_named(
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
