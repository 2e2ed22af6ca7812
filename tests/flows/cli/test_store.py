"""Commands that maintain a store, and commands that list its runs."""

import shutil
from itertools import takewhile
from pathlib import Path

import pytest
import typer

from flows.cli.app import app
from flows.terminal.console import console
from storage.maintenance.verify import verify
from storage.query.catalog import open_catalog
from storage.runs.run import BusyError, Run
from storage.runs.status import last_accepted_generation
from tests.support.paths import ROOT


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_width", 200)


def _do(store: Path, *arguments: str) -> int:
    return app([*arguments, "--store", str(store)], standalone_mode=False) or 0


def test_a_store_without_runs_is_reported_with_the_command_that_starts_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="heirloom run"):
        _do(tmp_path, "list")
    with pytest.raises(ValueError, match="There is no store"):
        _do(tmp_path / "nowhere", "verify")


def test_list_shows_generations_and_state_of_each_run(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _do(store, "list")
    output = capsys.readouterr().out
    assert "tiny" in output
    assert "3 of 3" in output
    assert "finished" in output
    with Run(store, "tiny").lock():
        _do(store, "list")
    assert "being written by process" in capsys.readouterr().out


def test_show_prints_one_row_per_generation(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _do(store, "show", "tiny")
    output = capsys.readouterr().out
    assert "policy accumulate" in output
    rows = takewhile(lambda row: row[:1].isdigit(), output.split("generation ")[1].splitlines()[1:])
    assert [row.split()[0] for row in rows] == ["0", "1", "2", "3"]
    with pytest.raises(ValueError, match="There is no run ghost"):
        _do(store, "show", "ghost")


def test_verify_prints_each_error_and_exits_with_code_1(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _do(store, "verify") == 0
    assert "No errors found." in capsys.readouterr().out
    (store / "runs/tiny/generation=1/attempt=1/corpus/part-00000.parquet").unlink()
    assert _do(store, "verify", "tiny") == 1
    output = capsys.readouterr().out
    assert "part-00000.parquet is missing; restore it from a copy" in output
    assert "errors: 1" in output


def test_rm_asks_refuses_a_run_that_is_written_and_deletes_the_others(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="Pass `--yes`"):
        _do(store, "rm", "tiny")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr(typer, "confirm", lambda _: False)
    assert _do(store, "rm", "tiny") == 1
    with Run(store, "tiny").lock(), pytest.raises(BusyError, match="Nothing was deleted"):
        _do(store, "rm", "tiny", "--yes")
    assert Run(store, "tiny").exists()
    _do(store, "rm", "tiny", "--yes")
    assert not Run(store, "tiny").exists()


def test_gc_lists_files_and_deletes_them_only_with_yes(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _do(store, "gc")
    assert "Nothing to delete" in capsys.readouterr().out
    for words in (["gc", "--keep-models", "1"], ["gc", "--keep-models", "1", "--yes", "--dry-run"]):
        _do(store, *words)
        assert "Nothing was deleted" in capsys.readouterr().out
    assert verify(store).without_weights == 0
    _do(store, "gc", "--keep-models", "1", "--yes")
    assert "2 in total" in capsys.readouterr().out
    assert verify(store).without_weights == 2


def test_a_fork_prints_the_next_command_and_its_origin(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _do(store, "fork", "tiny", "--generation", "1", "--name", "other", "--set", "generate.temperature=1.2")
    assert "Continue with: heirloom run other" in capsys.readouterr().out
    assert last_accepted_generation(Run(store, "other")) == 1
    _do(store, "list")
    assert "tiny generation 1" in capsys.readouterr().out
    _do(store, "show", "other")
    output = capsys.readouterr().out
    assert "forked from tiny generation 1" in output
    assert "waits before generation 2" in output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--generation", "3", "--name", "other"], "--set num_generations=6"),
        (["--generation", "9", "--name", "other", "--set", "num_generations=12"], "generation 4 is not finished"),
        (["--generation", "1", "--name", "anchor"], "is the name of a shipped recipe"),
        (["--generation", "1", "--name", "tiny"], "exists already. Choose another name"),
        (["--generation", "1", "--name", "other", "--set", "dataset=else"], "A fork keeps the dataset"),
        (["--generation", "1", "--name", "other", "--set", "mix.polcy=x"], "polcy"),
        (["--generation", "1", "--name", "../up"], "name"),
    ],
)
def test_a_fork_that_cannot_continue_is_refused(words: list[str], sentence: str, store: Path) -> None:
    before = sorted(path.name for path in (store / "runs").iterdir())
    with pytest.raises(ValueError, match=sentence):
        _do(store, "fork", "tiny", *words)
    assert sorted(path.name for path in (store / "runs").iterdir()) == before


def test_erase_lists_artifacts_and_models_and_redacts_only_on_request(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = "select unnest(parents) as p from candidates order by p limit 1"
    ((identity,),) = open_catalog(store).sql(query).fetchall()
    _do(store, "erase", identity, "--reason", "license withdrawn")
    output = capsys.readouterr().out
    assert "runs/tiny/generation=3/attempt=1/corpus" in output
    assert "the model beside it" in output
    assert "Pass --include-descendants to erase them too" in output
    assert "Files still contain the text" in output
    with pytest.raises(ValueError, match="Pass `--yes`"):
        _do(store, "erase", identity, "--redact-files")
    _do(store, "erase", identity, "--redact-files", "--include-descendants", "--yes")
    assert "Redacted" in capsys.readouterr().out
    assert _do(store, "verify") == 0
    assert open_catalog(store).sql(f"from candidates where list_contains(parents, '{identity}')").fetchall() == []
    reasons = open_catalog(store).sql("select reason, count(*) from tombstones group by all order by all").fetchall()
    assert ("license withdrawn", 1) in reasons


def test_erase_warns_of_a_run_that_is_being_written(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Run(store, "tiny").lock():
        _do(store, "erase", "tiny/g001-0000000")
    assert "Run this command again after it has ended." in capsys.readouterr().out
    with pytest.raises(ValueError, match="There is no record nothing"):
        _do(store, "erase", "nothing")


def test_verify_and_list_import_no_prefect(store: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from flows.cli.app import app; app(['verify', '--store', sys.argv[1]], standalone_mode=False)\n"
        "app(['list', '--store', sys.argv[1]], standalone_mode=False); print('prefect' in sys.modules)"
    )
    root = ROOT
    found = subprocess.run(
        [sys.executable, "-c", code, str(store)], cwd=root, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip().endswith("False")
    shutil.rmtree(store)


def test_a_mirrored_store_is_verified_and_unsupported_actions_are_refused(
    store: Path, bucket_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from storage.remote.mirror import sync
    from storage.remote.s3 import Bucket

    for path in sorted(path for path in store.rglob("*") if path.is_file() and not path.name.startswith(".")):
        Bucket(bucket_url).upload(path, path.relative_to(store).as_posix())
    sync(tmp_path / "mirror", bucket_url)
    mirror = tmp_path / "mirror"
    assert not list(mirror.rglob("*.parquet"))
    assert verify(mirror).errors == ()
    assert list(mirror.rglob("*.parquet"))
    assert _do(mirror, "verify") == 0
    part = next(key for key in Bucket(bucket_url).list_etags() if key.endswith("candidates/part-00000.parquet"))
    whole = Bucket(bucket_url).read(part)
    assert whole is not None
    Bucket(bucket_url).put(part, whole.content[:-1] + b"?", if_match=None)
    capsys.readouterr()
    # The mirror is intact and the bucket is not; every other reader would get the copy in the bucket.
    assert verify(mirror).errors == ()
    assert _do(mirror, "verify") == 1
    assert "part-00000.parquet is damaged" in capsys.readouterr().out
    Bucket(bucket_url).put(part, whole.content, if_match=None)
    for words in (
        ["erase", "tiny/g001-0000000"],
        ["gc", "--keep-models", "1", "--yes"],
        ["fork", "tiny", "--generation", "1", "--name", "other"],
    ):
        with pytest.raises(ValueError, match="Nothing was changed"):
            _do(mirror, *words)
    _do(mirror, "rm", "tiny", "--yes")
    assert "Deleted." in capsys.readouterr().out
    assert not [key for key in Bucket(bucket_url).list_etags() if key.startswith("runs/tiny")]
