"""The command line: options, errors, and commands without a file of their own."""

import inspect
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli.app import app, main
from flows.cli.options import Store
from flows.config.site import Site
from heirloom.errors import HeirloomError
from tests.conftest import human_texts, prefect_free_environment
from tests.support.paths import ROOT


def heirloom(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command line in this process; returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["heirloom", *arguments])
    before = dict(os.environ)
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        # The command line sets defaults in the environment of its process, which here is every other test's.
        os.environ.clear()
        os.environ.update(before)
    return 0


@pytest.fixture
def empty_store(tmp_path: Path) -> str:
    (tmp_path / "empty").mkdir()
    return str(tmp_path / "empty")


MISTAKES = {
    "missing file": (["ingest", "nowhere.jsonl", "--name", "x"], "nowhere.jsonl does not exist"),
    "unknown recipe": (["run", "nonsense"], "There is no recipe `nonsense`."),
    "unknown key": (
        ["run", "anchor", "--set", "mix.polcy=replace"],
        "Unknown key `mix.polcy`. Did you mean `mix.policy`?",
    ),
    "nothing ingested": (["run", "ngram"], "There is no dataset 'python-docs'"),
    "nothing ingested, checked": (["plan", "ngram"], "There is no dataset 'python-docs'"),
    "no dataset for an evaluation set": (
        ["add-eval-set", "README.md", "--dataset", "absent", "--name", "exam"],
        "There is no dataset 'absent'",
    ),
    "unknown setting of an evaluation set": (
        ["add-eval-set", "README.md", "--dataset", "absent", "--name", "exam", "--set", "overlap.treshold=1"],
        "Unknown key `overlap.treshold`.",
    ),
    "unknown run": (["report", "ghost"], "There is no run ghost"),
    "wrong SQL": (["sql", "select nothing from nowhere"], "DuckDB: Catalog Error"),
    "unknown query": (["query", "why"], "Named queries: best_of_stats"),
    "unknown command": (["evolv"], "No such command"),
    "unknown option": (["sql", "--stor", "x", "select 1"], "No such option"),
    "missing argument": (["run"], "Missing argument"),
    "not enough to curate": (["curate", "nowhere.jsonl"], "Missing option '--out'"),
    "a limit with minimum above maximum": (
        ["curate", "nowhere.jsonl", "--out", "x", "--set", "quality.words={min = 5, max = 2}"],
        "`quality.words`: min must not exceed max, found {min = 5, max = 2}",
    ),
    "two recipes of one name": (["compare", "ngram", "ngram"], "recipes to compare need different names"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_ends_with_one_sentence_and_exit_code_2(
    mistake: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    empty_store: str,
    prefect_server: None,
) -> None:
    arguments, sentence = MISTAKES[mistake]
    monkeypatch.setenv("HEIRLOOM_STORE", empty_store)
    assert heirloom(monkeypatch, *arguments) == 2
    output = capsys.readouterr()
    assert sentence in " ".join(output.err.split())
    assert output.err.startswith("heirloom:")
    assert "Traceback" not in output.err + output.out
    files = [path for path in Path(empty_store).rglob("*") if path.is_file() and path.name != ".lock"]
    assert files == []


def test_a_missing_store_is_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert heirloom(monkeypatch, "sql", "--store", "nowhere", "select 1") == 2
    assert "There is no store at nowhere" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"body": "a text"}\n', "has no text in column `text` (1 no text in column text). Name the text column with"),
        ("", "0 documents yield 0 records for `human_train`"),
        ('{"text": "one two three"}\n' * 50, "at least 20 are needed. Add documents. Rejected: 49 exact duplicate"),
    ],
)
def test_unusable_human_text_is_refused_and_leaves_no_file(
    content: str,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    prefect_server: None,
) -> None:
    (tmp_path / "some.jsonl").write_text(content)
    store = tmp_path / "store"
    assert heirloom(monkeypatch, "ingest", str(tmp_path / "some.jsonl"), "--name", "some", "--store", str(store)) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not [path for path in store.rglob("*") if path.is_file()]


def test_a_loop_is_planned_run_and_queried_from_the_command_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    sample_documents: Path,
    tmp_path: Path,
    prefect_server: None,
) -> None:
    store = str(tmp_path / "store")
    monkeypatch.setenv("HEIRLOOM_STORE", store)
    small = ["--set", "dataset=letters", "--set", "num_generations=2", "--set", "evaluate.num_samples=20"]
    assert heirloom(monkeypatch, "ingest", str(sample_documents), "--name", "letters") == 0
    assert "records for training" in capsys.readouterr().out
    assert heirloom(monkeypatch, "plan", "ngram", *small) == 0
    assert "none is finished" in capsys.readouterr().out
    assert heirloom(monkeypatch, "run", "ngram", *small) == 0
    assert "report.html" in capsys.readouterr().out
    assert heirloom(monkeypatch, "plan", "ngram", *small) == 0
    assert "nothing is to do" in capsys.readouterr().out
    assert (
        heirloom(monkeypatch, "sql", "select generation, origin, count(*) from corpus group by all order by all") == 0
    )
    assert "synthetic" in capsys.readouterr().out
    assert heirloom(monkeypatch, "query", "human_share") == 0
    assert "human_fraction" in capsys.readouterr().out
    assert heirloom(monkeypatch, "plan", "ngram", *small, "--set", "seed=3") == 2
    assert "seed was 0, is now 3" in capsys.readouterr().err


@pytest.mark.processes
def test_sql_does_not_import_prefect(ingested: Site) -> None:
    code = (
        "import sys; from flows.cli.app import main; sys.argv = ['heirloom', 'sql', '--store', sys.argv[1], 'select 42 "
        "as answer']\ntry: main()\nexcept SystemExit: pass\nprint('prefect' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(ingested.store)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "42" in found.stdout
    assert found.stdout.strip().endswith("False")


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("operands could not be broadcast together")

    monkeypatch.setattr("flows.terminal.run_tables.show_runs", fail)
    monkeypatch.setattr("flows.cli.runs.existing_store", lambda _: Path())
    with pytest.raises(ValueError, match="could not be broadcast"):
        heirloom(monkeypatch, "list")


@pytest.mark.parametrize("by_option", [True, False])
def test_debug_shows_the_traceback_of_a_mistake_too(by_option: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not by_option:
        monkeypatch.setenv("HEIRLOOM_DEBUG", "1")
    with pytest.raises(HeirloomError, match="There is no recipe"):
        heirloom(monkeypatch, *(["--debug"] if by_option else []), "run", "nonsense")


def test_an_error_with_a_file_name_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ingested: Site, tmp_path: Path
) -> None:
    out = tmp_path / "missing" / "result.csv"
    assert heirloom(monkeypatch, "sql", "select 1", "--store", str(ingested.store), "--out", str(out)) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"heirloom: No such file or directory: {out.parent}/")


def test_the_version_is_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert heirloom(monkeypatch, "--version") == 0
    assert capsys.readouterr().out.startswith("heirloom ")


def test_the_help_page_groups_commands_and_shows_an_example(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert heirloom(monkeypatch, "--help") == 0
    page = capsys.readouterr().out
    panels = [line for line in page.splitlines() if line in ("Loop:", "Data:", "Query:", "Store:", "Serve:")]
    assert panels == ["Loop:", "Data:", "Query:", "Store:", "Serve:"]
    assert "..." not in page.split("Loop:")[1]
    assert heirloom(monkeypatch, "run", "--help") == 0
    page = capsys.readouterr().out
    assert page.endswith("Example:\n  heirloom run anchor --set num_generations=3\n")
    assert "overrides the recipe file" in " ".join(page.split())


@pytest.mark.processes
def test_help_and_usage_errors_import_no_implementation() -> None:
    heavy = "{'numpy', 'pyarrow', 'duckdb', 'scipy', 'rich.console', 'prefect', 'torch'}"
    code = (
        "import sys\nfrom flows.cli.app import main\nfor words in (['--help'], ['run', '--help'], ['evolv']):\n"
        "    sys.argv = ['heirloom', *words]\n    try: main()\n    except SystemExit: pass\n"
        f"print('loaded:', sorted({heavy} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "loaded: []" in found.stdout


@pytest.mark.processes
def test_plain_duckdb_reads_the_files_as_they_are(ingested: Site) -> None:
    import duckdb

    from flows.config.loading import load_recipe
    from flows.evolve import evolve
    from tasks.orchestration.prefect import without_prefect

    with without_prefect():
        evolve(load_recipe("ngram", ["dataset=letters", "num_generations=1", "evaluate.num_samples=20"]), ingested)
    files = ingested.store / "runs/*/generation=*/attempt=*/corpus/*.parquet"
    rows = duckdb.sql(
        f"select generation, origin, count(*) from read_parquet('{files}', hive_partitioning=true) group by all order "
        "by all"
    ).fetchall()
    from storage.query.catalog import open_catalog

    assert (
        rows
        == open_catalog(ingested.store)
        .sql("select generation, origin, count(*) from corpus group by all order by all")
        .fetchall()
    )
    assert [row[0] for row in rows] == [0, 1, 1]


@pytest.mark.processes
def test_no_secret_of_the_environment_reaches_a_manifest(ingested: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    from flows.config.loading import load_recipe
    from flows.evolve import evolve
    from tasks.orchestration.prefect import without_prefect

    with without_prefect():
        evolve(load_recipe("ngram", ["dataset=letters", "num_generations=0", "evaluate.num_samples=20"]), ingested)
    for path in ingested.store.rglob("*.json"):
        assert "sk-very-secret" not in json.dumps(json.loads(path.read_text()))


def test_every_command_with_a_store_has_the_same_option() -> None:
    without = set()
    for command in app.registered_commands:
        assert command.callback is not None
        parameters = inspect.signature(command.callback).parameters
        if "store" in parameters:
            assert parameters["store"].annotation is Store
        else:
            without.add(command.callback.__name__)
    # `curate` works on any corpus, and `init` looks at a source.
    assert without == {"curate", "init"}


def serve(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = prefect_free_environment() | {"PREFECT_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "flows", "serve", *words]
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.processes
def test_without_a_server_the_error_explains_how_to_start_one(tmp_path: Path) -> None:
    found = serve(tmp_path, "ngram")
    assert found.returncode == 2
    assert "prefect server start" in found.stderr and "PREFECT_API_URL" in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.processes
def test_an_unknown_recipe_is_refused_before_flows_are_served(tmp_path: Path) -> None:
    found = serve(tmp_path, "nothing-like-it")
    assert found.returncode == 2
    assert "There is no recipe `nothing-like-it`." in found.stderr


def _output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    app(["theory", *arguments], standalone_mode=False)
    return " ".join(capsys.readouterr().out.split())


def test_all_scenes_are_shown_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    output = _output(capsys, "replay", "--rounds", "60")
    assert [f"Theorem {number}" in output for number in ("4.1", "5.1", "6.1", "7.3")] == [True] * 4


def test_an_unknown_scene_is_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"There is no scene `witness`. Did you mean `witnesses`\? Scenes: burn-in, echo, witnesses, four",
    ):
        app(["theory", "replay", "--scene", "witness"], standalone_mode=False)


def test_chains_use_the_newest_model_of_a_run(finished_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("chains", "--run", "tiny", "--store", str(finished_store), "--steps", "12", "--chains", "5")
    output = _output(capsys, *arguments)
    assert "5 chains of 12 steps by generation 3 of tiny" in output
    assert "greedy: 5 of 5 chains repeat a text" in output
    assert "they are: the same" in output
    assert "by generation 0 of tiny" in _output(capsys, *arguments, "--generation", "0")


@pytest.mark.processes
def test_the_commands_that_init_prints_lead_from_a_folder_of_texts_to_a_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEIRLOOM_STORE", str(tmp_path / "store"))
    (tmp_path / "letters").mkdir()
    for place in range(8):
        text = "\n\n".join(human_texts(40, seed=place))
        (tmp_path / "letters" / f"{place}.txt").write_text(text)
    assert heirloom(monkeypatch, "init", "letters", "--model", "ngram") == 0
    printed = capsys.readouterr().out
    commands = [shlex.split(line)[1:] for line in printed.splitlines() if line.startswith("  heirloom ")]
    assert [command[0] for command in commands] == ["ingest", "plan", "preview", "run", "show"]
    for command in commands:
        assert heirloom(monkeypatch, *command) == 0, command
    assert (tmp_path / "store" / "reports" / "letters" / "report.html").is_file()
